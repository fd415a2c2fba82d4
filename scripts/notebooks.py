"""Execute the notebooks of examples/ from their top, each in a folder of its own that is removed afterwards.

python scripts/notebooks.py            execute them, and say where one fails
python scripts/notebooks.py --write    and keep their outputs: those that are committed were made by this

Needs pip install -e ".[notebook]".
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

EXAMPLES = Path(__file__).parents[1] / "examples"
TIMEOUT_S = 600  # of a cell


def execute(path: Path) -> Any:
    """The notebook with fresh outputs, and nothing in it of this machine's versions, times and kernels."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory(prefix="paribus-notebook-") as folder:
        client = NotebookClient(
            notebook,
            timeout=TIMEOUT_S,
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
        )
        client.execute()
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return notebook


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="keep the outputs")
    args = parser.parse_args()
    for path in sorted(EXAMPLES.glob("*.ipynb")):
        try:
            notebook = execute(path)
        except CellExecutionError as error:
            print(f"{path.name}: {error}", file=sys.stderr)
            return 1
        if args.write:
            nbformat.write(notebook, path)
        print(f"{path.name}: executed{', outputs written' if args.write else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
