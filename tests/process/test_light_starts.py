"""What starts light: commands and packages that import nothing heavy."""

import subprocess
import sys
from pathlib import Path


def test_helping_and_listing_start_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom paribus.cli.main import dispatch\n"
        f"assert dispatch(['data', '--help']) == dispatch(['data', 'list', '--root', {str(tmp_path)!r}]) == 0\n"
        "assert dispatch(['data', 'prepare', '--help']) == 0\nassert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_statistics_start_without_torch_and_without_scipy() -> None:
    code = "import sys, paribus.study.stats; print([m for m in ('torch', 'scipy', 'pydantic') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_report_imports_neither_torch_nor_hydra() -> None:
    code = (
        "import sys; import paribus.cli.study.report, paribus.cli.compare, paribus.study.report.figures.curves; "
        "import matplotlib, jinja2; "
        "print([m for m in ('torch', 'hydra', 'omegaconf', 'wandb', 'matplotlib.pyplot') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


FIRST_LINE = """
import io, os, sys

class Seen(io.StringIO):
    def write(self, text):
        heavy = [m for m in ("torch", "hydra", "omegaconf", "pydantic", "rich") if m in sys.modules]
        os.write(1, (text + str(heavy)).encode())
        os._exit(0)

sys.stdout = Seen()
from paribus.cli.main import dispatch
dispatch(["train", "experiment=smoke", "seed=3"])
os.write(1, b"nothing was written")
"""


def test_the_first_line_of_a_training_is_there_before_anything_heavy_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", FIRST_LINE], capture_output=True, text=True, check=True)
    assert done.stdout == "paribus train: experiment smoke, seed 3 → composing...[]"


def test_cleaning_starts_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom paribus.cli.main import dispatch\n"
        f"assert dispatch(['clean', {str(tmp_path)!r}]) == 0\nassert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_help_of_training_starts_without_torch() -> None:
    code = (
        "import sys\nfrom paribus.cli.main import dispatch\n"
        "for words in (['--help'], ['--help', 'optimizer'], ['experiment=smoke', 'technique=adamp', '-h']):\n"
        "    assert dispatch(['train', *words]) == 0\nassert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_library_lists_runs_and_reads_studies_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys, paribus; assert paribus.__all__\n"
        "print([m for m in ('torch', 'pandas', 'yaml', 'pydantic') if m in sys.modules])\n"
        f"paribus.runs({str(tmp_path)!r}), paribus.study\n"
        "print([m for m in ('torch', 'hydra', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
