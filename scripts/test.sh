#!/usr/bin/env bash
# Everything CI checks: style, types, import directions, tests. Arguments go to pytest, e.g. scripts/test.sh -m slow
# --fast: style and the tests that need no processes of their own, which most mistakes fail.
set -euo pipefail
. "$(dirname "$0")/environment.sh" "[dev]"
ruff check .
ruff format --check .
if [ "${1:-}" = --fast ]; then
  shift
  OMP_NUM_THREADS=1 exec python -m pytest --numprocesses "${PARIBUS_TEST_WORKERS:-2}" -m "not slow and not timing" \
    tests/architecture tests/golden tests/unit/core tests/unit/study tests/unit/techniques "$@"
fi
pyright
lint-imports
# In CI, for tests/slurm: install Slurm, 3 MB, in at most a minute. Elsewhere those tests are skipped without it.
if [ "${CI:-}" = true ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! PATH=$PATH:/usr/sbin command -v slurmctld >/dev/null; then
  (
    export DEBIAN_FRONTEND=noninteractive
    timeout 20 apt-get update && timeout 40 apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge
  ) >/dev/null 2>&1 </dev/null || echo "Slurm could not be installed; tests/slurm will be skipped"
fi
# one worker per core; a test uses one thread
OMP_NUM_THREADS=1 python -m pytest --numprocesses "${PARIBUS_TEST_WORKERS:-2}" -m "not slow and not timing" "$@"
