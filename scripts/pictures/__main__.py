"""Make the pictures of docs/pictures/ again, from the code as it is.

python scripts/pictures                 all of them
python scripts/pictures NAME ...        some: how_it_works architecture terminal mixed_images report
python scripts/pictures --list          their names, and what each needs

`report` needs Chromium (apt-get install chromium), which CI has not; `terminal` trains for about 10 s. Pictures of the
technique cards are made by `paribus cards --write`, docs/results.svg by `paribus results --write`.
"""

import argparse
import importlib
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "pictures"
NAMES = {
    "how_it_works": "the standard library",
    "architecture": "the standard library",
    "terminal": "a training of 10 s",
    "mixed_images": "Pillow and scikit-learn's two photographs",
    "report": "Chromium",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all of them by default")
    parser.add_argument("--list", action="store_true", help="print the names and what each needs")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in NAMES]:
        parser.error(f"no picture {', '.join(unknown)}; there are {', '.join(NAMES)}")
    if args.list:
        print("\n".join(f"{name:14} {needs}" for name, needs in NAMES.items()))
        return 0
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # what is shown is a run on a CPU, wherever it is made
    sys.path.insert(0, str(ROOT / "scripts"))
    FOLDER.mkdir(exist_ok=True)
    for name in args.names or NAMES:
        for file, content in importlib.import_module(f"pictures.{name}").make().items():
            (FOLDER / file).write_bytes(content)
            print(f"docs/pictures/{file}  {len(content) / 1024:.0f} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
