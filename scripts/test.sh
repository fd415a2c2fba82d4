#!/usr/bin/env bash
# Everything CI holds: style, types, import directions, tests. Arguments go to pytest, e.g. scripts/test.sh -m slow
set -euo pipefail
. "$(dirname "$0")/environment.sh" "[dev]"
ruff check .
ruff format --check .
pyright
lint-imports
# one worker a core; a test uses one thread
OMP_NUM_THREADS=1 python -m pytest --numprocesses "${PARIBUS_TEST_WORKERS:-2}" -m "not slow" "$@"
