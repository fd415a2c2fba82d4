#!/usr/bin/env bash
# Are the lower bounds of pyproject.toml true? Makes an environment with the lowest version of every package named there, and
# in it runs the fast tests, a short training and a study's report. By hand, after a bound or what stands on it has changed:
# 6 GB and some 10 minutes on two cores.
# usage: bash scripts/lowest.sh [ARGUMENTS OF PYTEST]     PARIBUS_LOWEST=DIR: the environment's folder, .venv-lowest otherwise
set -euo pipefail
cd "$(dirname "$0")/.."
environment=${PARIBUS_LOWEST:-.venv-lowest}
unset PYTHONPATH
# always a new one: uv keeps a newer version that is there already
python3 -m venv --clear "$environment"
# shellcheck disable=SC1091
. "$environment/bin/activate"
python -m pip install --quiet --disable-pip-version-check uv
uv pip install --quiet --resolution lowest-direct --editable '.[dev]'
# -W default: old versions warn about themselves
OMP_NUM_THREADS=1 python -m pytest --numprocesses "${PARIBUS_TEST_WORKERS:-2}" -W default -m "not slow and not timing" \
  tests/architecture tests/golden tests/unit/core tests/unit/study tests/unit/techniques "$@"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r experiments/quickstart "$work/study"
(cd "$work" && paribus train experiment=smoke technique=cutmix --quiet)
paribus study report "$work/study" >/dev/null
ls "$work/study/report.html" "$work"/runs/*/DONE >/dev/null
echo "passed with $(uv pip list --quiet --format freeze 2>/dev/null | grep -E '^(torch|torchvision|timm|numpy|scipy)==' | paste -sd ' ')"
