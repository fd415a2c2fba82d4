#!/usr/bin/env bash
# The two classifiers that judge translations in this study, trained on real images: runs/stargan_domains/judge_domain.safetensors and
# judge_content.safetensors. A few minutes each on one core. No arm trains by them. They have to be there before the study is planned.
# usage, from the root of the repository: bash experiments/stargan_domains/make_judges.sh [DIR]     DIR holds MNIST/raw
set -euo pipefail
root=${1:-${PARIBUS_DATA:-data}}
export OMP_NUM_THREADS=1
for label in domain content; do
  paribus train experiment=domain_digits_classifier name=judge_$label paths.runs=runs/stargan_domains/judges data.root="$root" \
    data.label=$label runtime.threads=1 runtime.device=cpu tracker=events
  paribus export runs/stargan_domains/judges/judge_$label-* --out runs/stargan_domains/judge_$label.safetensors
done
