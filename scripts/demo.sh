#!/usr/bin/env bash
# The main use case, from a fresh clone: a study of CutMix and AdamP on 200 real digits, 4 arms × 6 seeds, trained, evaluated,
# recorded and reported under runs/demo, which git ignores. If interrupted, run it again to resume.
# usage: bash scripts/demo.sh [FOLDER]     a folder with a study.yaml instead, such as experiments/pit_cifar10
set -euo pipefail
. "$(dirname "$0")/environment.sh" ""
given=${1:-experiments/quickstart}
study=runs/demo/$(basename "$given")
# only study.yaml is copied, so every run is trained here and the recorded rows are left alone
mkdir -p "$study"
cp "$given/study.yaml" "$study/study.yaml"
paribus study run "$study" --workers 2 --runs "$study/runs"
echo
paribus study report "$study" --runs "$study/runs"
echo
echo "rows:           $study/results.jsonl"
echo "one run:        paribus train experiment=quickstart technique=cutmix seed=1"
echo "on CIFAR-10:    paribus train experiment=cifar10_small data.root=DIR technique=cutmix"
