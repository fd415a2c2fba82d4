#!/usr/bin/env bash
# How judge_domain.safetensors and judge_content.safetensors beside this file were made: the two classifiers that judge translations, trained
# on real images, two minutes each on one core. No arm trains by them. They are committed, since what other judges say does not compare.
# usage, from the root of the repository: bash experiments/stargan_domains/make_judges.sh [DIR]     DIR holds MNIST/raw
set -euo pipefail
root=${1:-${PARIBUS_DATA:-data}}
export OMP_NUM_THREADS=1
for label in domain content; do
  paribus train experiment=domain_digits_classifier name=judge_$label paths.runs=runs/stargan_domains/judges data.root="$root" \
    data.label=$label runtime.threads=1 runtime.device=cpu tracker=events
  paribus export runs/stargan_domains/judges/judge_$label-* --out runs/stargan_domains/judge_$label.safetensors
done
