#!/usr/bin/env bash
# The main use case, from a fresh clone: a study of CutMix and AdamP on 200 real digits, 4 arms × 6 seeds, trained, evaluated,
# recorded and reported under runs/demo, which git ignores. If interrupted, run it again to resume.
# usage: bash scripts/demo.sh [FOLDER]     a folder with a study.yaml instead, such as experiments/pit_cifar10
set -euo pipefail
. "$(dirname "$0")/environment.sh" ""
installed=$SECONDS
given=${1:-experiments/quickstart}
study=runs/demo/$(basename "$given")
# only study.yaml is copied, so every run is trained here and the recorded rows are left alone
mkdir -p "$study"
cp "$given/study.yaml" "$study/study.yaml"
paribus study run "$study" --workers 2 --runs "$study/runs"
report=$(paribus study report "$study" --runs "$study/runs")
echo
echo "What the study found:"
# of each comparison the verdict, and below it the difference, its interval and the seeds
sed -n -e '/^\* /{p;n;s/ seeds;.*/ seeds/;p;}' -e '/^What this setting cannot show/p' <<<"$report"
echo
echo "the report:     open $study/report.html in a browser: intervals, learning curves, cost, every run"
echo "the time:       $((installed / 60)) min $((installed % 60)) s installation, \
$(((SECONDS - installed) / 60)) min $(((SECONDS - installed) % 60)) s study"
echo "next, one run:  ${made_venv:+.venv/bin/}paribus train experiment=quickstart technique=cutmix seed=1"
echo "on CIFAR-10:    ${made_venv:+.venv/bin/}paribus train experiment=cifar10_small technique=cutmix data.download=true"
