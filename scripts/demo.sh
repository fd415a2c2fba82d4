#!/usr/bin/env bash
# The main job, from a fresh clone: a baseline and CutMix trained on 1,437 real digits, evaluated, recorded.
set -euo pipefail
. "$(dirname "$0")/environment.sh" ""
paribus train -m experiment=quickstart technique=baseline,cutmix
echo
paribus list runs
echo
echo "again:          paribus train experiment=quickstart technique=cutmix seed=1"
echo "on CIFAR-10:    paribus train experiment=cifar10_small data.root=DIR technique=cutmix"
