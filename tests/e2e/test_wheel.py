"""The wheel, made from the source distribution and installed elsewhere without the checkout, trains."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import paribus

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "src" / "paribus" / "cli" / "templates"  # of paribus new


def test_the_wheel_carries_its_configs_and_trains(tmp_path: Path) -> None:
    built = subprocess.run(  # without --wheel it is the wheel of the source distribution, not of the checkout
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,), (sources,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    assert wheel.name.startswith(f"paribus-{paribus.__version__}-")
    with tarfile.open(sources) as packed:
        parts = {Path(name).relative_to(f"paribus-{paribus.__version__}").parts[0] for name in packed.getnames()}
    # not the tests, and nothing that lies in somebody's checkout
    files = {"CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md", "constraints.txt", "pyproject.toml"}
    assert parts == {*files, ".gitignore", "PKG-INFO", "configs", "src"}
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(site)
    shipped = {f"paribus/{p.relative_to(ROOT)}" for p in (ROOT / "configs").rglob("*.yaml")}
    templates = {f"paribus/{p.relative_to(ROOT / 'src' / 'paribus')}" for p in TEMPLATES.rglob("*.*")}
    assert shipped | templates | {"paribus/study/report/templates/report.html.j2"} <= names
    assert len(templates) == 6
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "paribus.cli", "train", "experiment=smoke", "technique=cutmix", "steps=10ba"],
        cwd=work,
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    where = subprocess.run(
        [sys.executable, "-c", "from paribus.recipe.configs import find_config_folder; print(find_config_folder())"],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=work,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.strip() == str(site / "paribus" / "configs")
    assert [p.name for p in work.iterdir()] == ["runs"]
