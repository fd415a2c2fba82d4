#!/usr/bin/env bash
# The main job, from a fresh clone: a study of CutMix and AdamP on 200 real digits, 4 arms × 6 seeds, trained, evaluated,
# recorded and reported. Interrupted, it goes on when started again.
set -euo pipefail
. "$(dirname "$0")/environment.sh" ""
# --repeat: the rows on record come with the clone; here they are made again
paribus study run experiments/quickstart --workers 2 --repeat
echo
paribus study report experiments/quickstart
echo
echo "rows:           experiments/quickstart/results.jsonl"
echo "one run:        paribus train experiment=quickstart technique=cutmix seed=1"
echo "on CIFAR-10:    paribus train experiment=cifar10_small data.root=DIR technique=cutmix"
