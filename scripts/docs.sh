#!/usr/bin/env bash
# Build the documentation site into site/: open site/index.html. Every warning is an error: a link, a section or a file that
# does not exist, a page that no table of contents has. It needs no network, and the site needs none.
# usage: bash scripts/docs.sh [FOLDER]     DOCTREES: where Sphinx keeps what it has read (docs/_build/doctrees)
set -euo pipefail
out=${1:-$(dirname "$0")/../site}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/.."
python -c 'import furo, myst_parser, paribus, sphinx' 2>/dev/null || . scripts/environment.sh "[docs]"
CUDA_VISIBLE_DEVICES="" python -m sphinx --quiet --fail-on-warning --keep-going --nitpicky -b html \
  -d "${DOCTREES:-docs/_build/doctrees}" docs "$out"
echo "$out/index.html"
