"""`paribus study report` and `paribus compare` from the command line: what they write, refuse, and exit with."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from helpers.reports import invented
from helpers.studies import finished, made_up_plan, written
from paribus.cli.main import dispatch
from paribus.study.load import load_study
from paribus.study.looks import read_looks
from paribus.study.plan import Plan, freeze
from paribus.study.rows import read_rows, update_rows
from paribus.study.spec import Study

Run = Callable[..., tuple[int, str, str]]
LEVELS = {"baseline": 0.9, "cutmix": 0.8}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command line in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        code = dispatch([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Six seeds of two arms, all on record; cutmix is ten points worse."""
    made = written(tmp_path / "experiments" / "made_up", seeds=6)
    _record(made, made_up_plan(made))
    return made


def _record(study: Study, plan: Plan) -> None:
    rows = [invented(c.arm, c.seed, LEVELS[c.arm], id=c.id, study=study.name) for c in plan.cells]
    update_rows(study, rows, [c.name for c in plan.cells])


def test_a_report_is_four_files_and_says_the_verdict(run: Run, study: Study) -> None:
    code, out, err = run("study", "report", study.folder)
    assert (code, err) == (0, "")
    assert "cutmix is worse than baseline." in out
    assert str(study.folder / "report.html") in out
    made = {"README.md", "differences.svg", "report.html", "report.csv", "report.json"}
    assert made <= {p.name for p in study.folder.iterdir()}
    assert "paribus study run experiments/made_up" in (study.folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), 0),
        (("--fail-if", "worse", "--margin", "0.5"), 1),
        (("--fail-if", "worse", "--margin", "20pt"), 0),
        (("--fail-if", "worse", "--margin", "2e1"), 0),
        (("--fail-if", "maybe-worse"), 1),
        (("--fail-if", "incomplete"), 0),
        (("--fail-if", "incomplete,undecided", "--fail-if", "worse"), 1),
    ],
)
def test_the_gate_decides_the_exit_code(run: Run, study: Study, options: tuple[str, ...], expected: int) -> None:
    code, out, _ = run("study", "report", study.folder, *options)
    assert code == expected
    assert ("FAIL" in out.partition("where the condition holds")[2]) == (expected == 1)
    assert (study.folder / "report.html").exists()


def test_the_gate_writes_junit_and_json(run: Run, study: Study, tmp_path: Path) -> None:
    code, _, _ = run(
        *(
            "study",
            "report",
            study.folder,
            "--fail-if",
            "worse",
            "--junit",
            tmp_path / "j.xml",
            "--json",
            tmp_path / "j.json",
        )
    )
    assert code == 1
    assert ElementTree.parse(tmp_path / "j.xml").getroot().get("failures") == "1"
    content = json.loads((tmp_path / "j.json").read_text())
    assert [check["failed"] for check in content["gate"]] == [True]
    assert content["comparisons"][0]["comparison"]["judgement"]["verdict"] == "worse"


def test_runs_that_have_ended_but_are_not_on_record_are_read_from_their_folders(run: Run, tmp_path: Path) -> None:
    study = written(tmp_path / "made_up", seeds=2)
    plan = made_up_plan(study)
    for cell in plan.cells[:3]:
        finished(tmp_path / "runs/made_up" / cell.folder, cell)
    code, out, _ = run("study", "report", study.folder)
    assert code == 0
    assert out.startswith("made_up: 1 of 4 runs missing")


def _damage(study: Study, how: str) -> None:
    match how:
        case "no study":
            (study.folder / "study.yaml").unlink()
        case "no rows":
            study.results_path.unlink()
        case "newer rows":
            text = study.results_path.read_text()
            study.results_path.write_text(text.replace('"schema": 1', '"schema": 99', 1))
        case "another recipe":
            made_up_plan(study, lr=0.2)
        case "markers":
            (study.folder / "README.md").write_text("<!-- paribus report: begin -->\n")
        case "protected":
            (study.folder / "README.md").write_text("mine\n")
            (study.folder / "README.md").chmod(0o444)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("no study", "no study there"),
        ("no rows", "no run is recorded yet; start with paribus study run"),
        ("newer rows", "schema 99"),
        ("another recipe", "the recipe has changed since its rows were recorded"),
        ("markers", "the markers of the report are damaged"),
        ("protected", "write-protected; nothing was written"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(run: Run, study: Study, how: str, told: str) -> None:
    _damage(study, how)
    before = {path.name: path.read_bytes() for path in study.folder.iterdir()}
    code, out, err = run("study", "report", study.folder)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert told in err
    assert {path.name: path.read_bytes() for path in study.folder.iterdir()} == before


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--fail-if", "bad"), "--fail-if: found bad"),
        (("--fail-if", "worse", "--margin", "0.005"), "Give the unit pt"),
        (("--junit", "x.xml"), "--junit: there is nothing to write without --fail-if"),
        (("--margin",), "--help shows the usage"),
        (("--what",), "--help shows the usage"),
    ],
)
def test_bad_options_are_one_line_before_anything_is_written(
    run: Run, study: Study, options: tuple[str, ...], told: str
) -> None:
    code, _, err = run("study", "report", study.folder, *options)
    assert code == 2
    assert err.count("\n") == 1
    assert told in err
    assert not (study.folder / "report.html").exists()


# looks, and changes after them


def _looks(study: Study) -> list[int]:
    return [look.rows for look in read_looks(study)]


def test_a_margin_changed_after_the_rows_is_told_wherever_the_verdict_is(run: Run, study: Study) -> None:
    """A margin of 50 points made ten points worse "worse, but by less"; one of 2 points makes it "worse"."""
    written(study.folder, seeds=6, smallest_effect="50pt")
    _record(study, made_up_plan(load_study(study.folder)))
    _, out, _ = run("study", "report", study.folder)
    assert "cutmix is worse than baseline, but by less than 50 points" in out
    assert "Margin" not in out
    written(study.folder, seeds=6, smallest_effect=0.02)
    for _ in range(2):
        code, out, err = run("study", "report", study.folder)
        assert (code, err) == (0, "")
        assert "cutmix is worse than baseline.\n" in out
        said = "Margin changed from 50 points to 2 points after 12 rows and a look at 12."
        assert f"! {said}\n" in out
        assert f"> {said}\n" in (study.folder / "README.md").read_text()
        assert f"<p>{said}</p>" in (study.folder / "report.html").read_text()
        assert said in json.loads((study.folder / "report.json").read_text())["report"]["cautions"]
    assert _looks(study) == [12, 12], "another margin is another look; the same look again is none"


def test_seeds_added_after_a_look_are_told(run: Run, study: Study) -> None:
    assert run("study", "report", study.folder)[0] == 0
    before = study.plan_path.read_text()
    more = written(study.folder, seeds=8)
    plan = made_up_plan(more)
    study.plan_path.write_text(before)
    freeze(more, plan, read_rows(more.results_path))
    _record(more, plan)
    code, out, _ = run("study", "report", study.folder)
    assert code == 0
    assert "! Seeds added (6, 7) after 12 rows and a look at 12.\n" in out
    assert _looks(study) == [12, 16]


def test_what_shows_no_verdict_is_no_look(run: Run, study: Study, runs: Path, tmp_path: Path) -> None:
    marked = "<!-- paribus results: begin made_up. Words. -->\n<!-- paribus results: end -->\n"
    (tmp_path / "README.md").write_text(marked)
    assert run("study", "status", study.folder)[0] == 0
    assert run("compare", *_both(runs))[0] == 0
    assert run("study", "report", study.folder, "--fail-if", "worse", "--margin", "0.001")[0] == 2
    assert run("results")[0] == 1
    assert not list(tmp_path.rglob("looks.jsonl"))
    assert run("results", "--write")[0] == 0
    assert run("study", "report", study.folder)[0] == 0
    assert _looks(study) == [12]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    assert run("results", "--write")[0] == 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before


# compare


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Finished run folders of two recipes on six seeds: NAME-SEED."""
    study = written(tmp_path / "for_runs", seeds=6)
    for cell in made_up_plan(study).cells:
        _run_folder(
            tmp_path / "runs", cell.arm, cell.seed, 0.9 + cell.seed / 1000 - (cell.arm == "cutmix") * 0.05, cell
        )
    return tmp_path / "runs"


def _run_folder(runs: Path, arm: str, seed: int, value: float, cell: object, **changes: object) -> Path:
    folder = runs / f"{arm}-{seed}"
    finished(folder, cell, value)  # type: ignore[arg-type]
    mix = {"cutmix": {"_target_": "paribus.techniques.cutmix.CutMix", "alpha": 1.0, "prob": 1.0}}
    config = {
        "name": "made_up",
        "seed": seed,
        "data": {"_target_": "paribus.data.digits.Digits", "root": f"/somewhere/{seed}"},
        "optimizer": {"lr": 0.1},
        "transforms": mix if arm == "cutmix" else {},
        "paths": {"runs": "anywhere"},
        "techniques": [] if arm == "baseline" else [arm],
        **changes,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def _both(runs: Path) -> list[object]:
    return [*sorted(runs.glob("cutmix-*")), "--against", *sorted(runs.glob("baseline-*"))]


def test_runs_are_compared_by_seed_and_printed_as_markdown(run: Run, runs: Path) -> None:
    code, out, err = run("compare", *_both(runs))
    assert (code, err) == (0, "")
    assert out.startswith("## cutmix against baseline\n")
    assert "**cutmix is worse than baseline.** Difference −5.00 points" in out
    assert "| against baseline | seeds |" in out
    assert "recipes differ" not in out


@pytest.mark.parametrize(("margin", "expected"), [("0.5", 1), ("1pt", 1), ("6pt", 0)])
def test_compare_is_a_gate_too(run: Run, runs: Path, tmp_path: Path, margin: str, expected: int) -> None:
    files = ("--junit", tmp_path / "j.xml", "--json", tmp_path / "j.json")
    code, _, _ = run("compare", *_both(runs), "--fail-if", "worse", "--margin", margin, *files)
    assert code == expected
    assert ElementTree.parse(tmp_path / "j.xml").getroot().get("failures") == str(expected)
    assert json.loads((tmp_path / "j.json").read_text())["gate"][0]["failed"] is (expected == 1)


def test_recipes_that_differ_in_more_than_techniques_are_flagged_with_the_keys(run: Run, runs: Path) -> None:
    for folder in runs.glob("cutmix-*"):
        config = yaml.safe_load((folder / "config.yaml").read_text())
        (folder / "config.yaml").write_text(
            yaml.safe_dump({**config, "optimizer": {"lr": 0.2}, "every": {"log": "1ba"}})
        )
    code, out, _ = run("compare", *_both(runs))
    assert code == 0
    assert out.startswith("## cutmix against baseline: recipes differ\n")
    assert "optimizer.lr (0.2 against 0.1)" in out
    assert "every" not in out


def _spoil(runs: Path, how: str) -> list[object]:
    first = runs / "cutmix-0"
    match how:
        case "mixed side":
            return [first, runs / "baseline-1", "--against", runs / "baseline-0"]
        case "seed twice":
            return [first, first, "--against", runs / "baseline-0"]
        case "no run":
            return [runs, "--against", runs / "baseline-0"]
        case "not finished":
            (first / "DONE").unlink()
        case "no metric":
            return [*_both(runs), "--metric", "val/f1"]
        case "other data":
            config = yaml.safe_load((first / "config.yaml").read_text())
            (first / "config.yaml").write_text(
                yaml.safe_dump({**config, "data": {"_target_": "paribus.data.cifar.Cifar"}})
            )
            return [first, "--against", runs / "baseline-0"]
        case "one side":
            return [first]
    return _both(runs)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("mixed side", "differ in more than the seed: transforms.cutmix"),
        ("seed twice", "both have seed 0"),
        ("no run", "no run there"),
        ("not finished", "has not finished"),
        ("no metric", "--metric val/f1: no run has it; there are lr, train/loss, val/acc1"),
        ("other data", "evaluated on different data"),
        ("one side", "--against"),
    ],
)
def test_what_cannot_be_compared_is_one_line(run: Run, runs: Path, how: str, told: str) -> None:
    code, out, err = run("compare", *_spoil(runs, how))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert told in err


# W&B


def test_a_summary_goes_to_wandb_on_request(
    run: Run, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    code, out, _ = run("study", "report", study.folder, "--wandb")
    assert code == 0
    assert "nothing was sent, since WANDB_MODE=disabled" in out


def test_offline_the_summary_is_a_local_record_with_the_same_tables(
    run: Run, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_DIR", "WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    call = [sys.executable, "-m", "paribus.cli", "study", "report", str(study.folder), "--wandb", "--runs", "w"]
    done = subprocess.run(call, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "wandb sync uploads it" in done.stdout
    (record,) = (tmp_path / "w").rglob("run-*.wandb")
    inspect = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(record)]
    told = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout
    lines = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    (started,) = [line["run"] for line in lines if line["type"] == "run"]
    assert (started["project"], started["run_group"], started["job_type"]) == ("paribus", "made_up", "report")
    assert "cutmix - baseline/verdict" in told
    assert "media/table/tables/differences" in told
    assert "media/images/figures/forest" in told
