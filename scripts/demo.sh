#!/usr/bin/env bash
# The main job, from a fresh clone: a study of CutMix and AdamP on 200 real digits, 4 arms × 6 seeds, trained, evaluated,
# recorded and reported under runs/demo, which git ignores. Interrupted, it goes on when started again.
# usage: bash scripts/demo.sh [FOLDER]     a folder with a study.yaml instead, such as experiments/pit_cifar10
set -euo pipefail
. "$(dirname "$0")/environment.sh" ""
given=${1:-experiments/quickstart}
study=runs/demo/$(basename "$given")
# the rows on record stay as they are: only the question is taken along, and every run is made here
mkdir -p "$study"
cp "$given/study.yaml" "$study/study.yaml"
paribus study run "$study" --workers 2 --runs "$study/runs"
echo
paribus study report "$study" --runs "$study/runs"
echo
echo "rows:           $study/results.jsonl"
echo "one run:        paribus train experiment=quickstart technique=cutmix seed=1"
echo "on CIFAR-10:    paribus train experiment=cifar10_small data.root=DIR technique=cutmix"
