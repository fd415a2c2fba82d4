# Sourced by demo.sh and test.sh: use the active virtual environment, or make .venv, and install paribus into it.
# usage: . scripts/environment.sh EXTRAS     e.g. "" or "[dev]"; sets made_venv where the environment is .venv
cd "$(dirname "${BASH_SOURCE[0]}")/.."
made_venv=
if [ -z "${VIRTUAL_ENV:-}" ]; then
  python=$(command -v python3 || command -v python) || { echo "no python3 found; install Python 3.11 or newer" >&2; exit 2; }
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { echo "$python is older than 3.11; put a newer python3 on the PATH" >&2; exit 2; }
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  # shellcheck disable=SC1091
  . .venv/bin/activate
  made_venv=yes
fi
echo "installing paribus$1 into $VIRTUAL_ENV (the first time: about 3 minutes and 6 GB, most of it torch)"
python -m pip install --quiet --disable-pip-version-check --editable ".$1" --constraint constraints.txt
