"""What cannot be judged is one line that says where, what was found and what to do; exit code 2."""

from pathlib import Path

import pytest

from paribus.cli.main import dispatch

GOOD = "arm,seed,acc\nbase,0,0.91\nbase,1,0.92\nnew,0,0.93\nnew,1,0.95\n"
SUMMARIES = "arm,n,mean,sd\nbase,5,91.0,0.3\nnew,5,92.0,0.4\n"
RIGHT = "id,a,b\n1,1,0\n2,1,1\n3,0,1\n"


def replaced(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


CASES: list[tuple[str, str, tuple[str, ...], tuple[str, ...]]] = [
    ("empty file", "", (), ("is empty",)),
    ("blank file", " \n\n", (), ("is empty",)),
    ("head alone", "arm,seed,acc\n", (), ("has a head and no rows",)),
    ("no head", "base,1\n1,2\n".replace("base", "3"), (), ("line 1 has numbers only",)),
    (
        "missing column",
        GOOD,
        ("--value", "accc"),
        ("--value accc: no such column", "did you mean acc?", "arm, seed, acc"),
    ),
    ("missing arm column", GOOD, ("--arm", "method"), ("--arm method: no such column", "there are arm, seed, acc")),
    ("no arm column", replaced(GOOD, "arm,", "what,"), (), ("which column is the arm? Give --arm",)),
    (
        "two values",
        replaced(GOOD, "arm,seed,acc\nbase,0,0.91", "arm,val loss,acc\nbase,0,0.91"),
        (),
        ("val loss or acc",),
    ),
    ("no value", "arm,seed\nbase,0\nnew,1\n", (), ("no column holds numbers",)),
    ("not a number", replaced(GOOD, "0.95", "good"), (), ("line 5: acc is 'good', not a number",)),
    (
        "NaN",
        replaced(GOOD, "0.95", "nan"),
        (),
        ("line 5: acc is nan; remove the row, or count it as failed with --failed",),
    ),
    ("infinite", replaced(GOOD, "0.95", "inf"), (), ("line 5: acc is inf",)),
    ("empty cell", replaced(GOOD, "0.95", ""), (), ("line 5: acc is empty",)),
    ("duplicate", replaced(GOOD, "new,1", "new,0"), (), ("line 5 is arm new, seed 0, as is line 4",)),
    ("no seed", replaced(GOOD, "new,1", "new,"), (), ("line 5 has no seed",)),
    (
        "unknown arm",
        GOOD,
        ("--against", "bse"),
        ("--against bse: no such arm (did you mean base?); there are base, new",),
    ),
    ("one arm", "arm,seed,acc\nbase,0,1\nbase,1,0.9\n", (), ("there is one arm, base",)),
    ("no baseline", replaced(GOOD, "base", "old"), (), ("Give --against; there are old, new",)),
    (
        "no direction",
        replaced(GOOD, "acc", "thing"),
        (),
        ("is more or less of thing better? Give --higher or --lower",),
    ),
    ("ambiguous margin", GOOD, ("--margin", "0.005"), ("--margin: found 0.005 on acc; is it 0.005 points",)),
    ("negative margin", GOOD, ("--margin=-1",), ("--margin: found '-1'; should be 0 or more",)),
    ("points of a loss", replaced(GOOD, "acc", "loss"), ("--margin", "1pt"), ("loss is not an accuracy",)),
    ("ragged", replaced(GOOD, "new,0,0.93", "new,0,0.93,7"), (), ("line 4 has 4 cells and the head 3",)),
    ("open quote", GOOD + 'new,2,"0.9\n', (), ("is not CSV",)),
    ("column twice", replaced(GOOD, "seed", "acc"), (), ("column acc is there twice",)),
    (
        "mixed",
        "arm,acc,n,mean,sd\nbase,,5,91,0.3\nnew,92,,,\n",
        (),
        ("line 3 is a run and", "line 2 a summary of runs"),
    ),
    ("both", "arm,acc,n,mean,sd\nbase,9,5,91,0.3\nnew,92,,,\n", (), ("line 2 has a value (acc) and a summary",)),
    ("value and mean", SUMMARIES, ("--value", "mean", "--sd", "sd"), ("--value and --sd",)),
    ("arm twice", replaced(SUMMARIES, "new", "base"), (), ("line 3 is a summary of base, as is line 2",)),
    ("half a run", replaced(SUMMARIES, "new,5", "new,4.5"), (), ("line 3: n is '4.5', not a number of runs",)),
    ("negative sd", replaced(SUMMARIES, "0.4", "-0.4"), (), ("line 3: sd is -0.4; a spread is 0 or more",)),
    ("no sd", replaced(SUMMARIES, "0.4", ""), (), ("line 3: sd is empty",)),
    ("JSON", '{"arm": "a"\n', (), ("line 1 is not JSON",)),
    ("JSON list", "[1, 2]", (), ("line 1 is int, not an object",)),
    ("JSON NaN", '{"arm": "base", "acc": NaN}\n{"arm": "new", "acc": 1}\n', (), ("line 1: acc is nan",)),
    ("condition", GOOD, ("--fail-if", "wors"), ("--fail-if: found wors (did you mean worse",)),
    ("margin for a condition", GOOD, ("--fail-if", "not-equivalent"), ("needs a margin above 0",)),
    ("junit", GOOD, ("--junit", "x.xml"), ("there is nothing to write without --fail-if",)),
    (
        "not right or wrong",
        replaced(RIGHT, "3,0,1", "3,0,2"),
        ("--examples", "--value", "a", "--value", "b"),
        ("line 4: b is '2'",),
    ),
    ("one model", "id,a\n1,1\n2,0\n", ("--examples",), ("needs a column of 0 and 1 for each model",)),
    (
        "example twice",
        replaced(RIGHT, "3,", "2,"),
        ("--examples", "--against", "a"),
        ("line 4 is example 2, as is line 3",),
    ),
    (
        "one cluster",
        "id,cluster,a,b\n1,x,1,0\n2,x,0,1\n",
        ("--examples", "--against", "a"),
        ("all examples are of one cluster",),
    ),
    ("lower", RIGHT, ("--examples", "--against", "a", "--lower"), ("to be right is better",)),
    ("cluster of runs", GOOD, ("--cluster", "seed"), ("is for --examples",)),
    ("seeds of examples", RIGHT, ("--examples", "--seed", "id"), ("is for runs",)),
    ("W&B names", "Name,State,Runtime,acc\nr1,finished,3,0.5\nr2,finished,3,0.6\n", (), ("is a run's own name",)),
]


@pytest.mark.parametrize(("text", "words", "said"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_one_line_says_what_is_wrong(
    text: str, words: tuple[str, ...], said: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    assert dispatch(["judge", str(path), *words]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("paribus: ")
    assert err.count("\n") == 1
    assert [part for part in said if part not in err] == [], err


def test_control_the_good_tables_are_judged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "table.csv"
    for text, words in ((GOOD, ()), (SUMMARIES, ("--higher",)), (RIGHT, ("--examples", "--against", "a"))):
        path.write_text(text)
        assert dispatch(["judge", str(path), *words]) == 0
        out, err = capfd.readouterr()
        assert "undecided" in out or "better" in out
        assert err == ""


def test_files_that_cannot_be_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "latin.csv").write_bytes("arm,acc\nbase,1\nnö,1\n".encode("latin-1"))
    for name, said in (("none.csv", "cannot be read: No such file"), ("latin.csv", "line 3 is not UTF-8 text")):
        assert dispatch(["judge", str(tmp_path / name)]) == 2
        assert said in capfd.readouterr().err
    assert dispatch(["judge", "-", "-"]) == 2
    assert "- is given twice" in capfd.readouterr().err


def test_models_with_unlike_examples(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    one, other = tmp_path / "a.csv", tmp_path / "b.csv"
    one.write_text("id,correct\nx,1\ny,0\n")
    other.write_text("id,correct\nx,1\nz,0\n")
    assert dispatch(["judge", str(one), str(other), "--examples", "--against", "a"]) == 2
    assert "example y is there for a and not for b, and 1 more" in capfd.readouterr().err
    one.write_text("correct\n1\n0\n1\n")
    other.write_text("correct\n1\n0\n")
    assert dispatch(["judge", str(one), str(other), "--examples", "--against", "a"]) == 2
    assert "has 3 examples and" in capfd.readouterr().err
    other.write_text("right\n1\n0\n")
    assert dispatch(["judge", str(one), str(other), "--against", "a"]) == 2
    assert "have different columns (correct, right)" in capfd.readouterr().err


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000])
def test_json_nested_too_deeply_is_one_line(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "deep.json").write_text(text)
    assert dispatch(["judge", str(tmp_path / "deep.json"), "--metric", "accuracy"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("option", ["--out", "--html", "--json"])
def test_what_is_judged_is_not_written_over(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    table = "arm,seed,acc\nbase,0,0.5\nbase,1,0.6\nnew,0,0.7\nnew,1,0.75\n"
    Path("runs.csv").write_text(table)
    assert dispatch(["judge", "runs.csv", option, f"{tmp_path}/./runs.csv"]) == 2
    assert f"{option}: found" in capsys.readouterr().err
    assert Path("runs.csv").read_text() == table
    assert dispatch(["judge", "runs.csv", "--html", "-"]) == 2


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((50, 0.5, 60, 0.6), "Are some of them fractions?"),
        ((150, 160, 170, 155), "which is no accuracy"),
        ((50, 51, 60, 62), ""),
        ((0.5, 0.51, 0.6, 1.0), ""),
        ((0, 51, 60, 1), ""),
    ],
)
def test_odd_accuracies_are_told(
    values: tuple[float, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = zip(("base", "base", "new", "new"), (0, 1, 0, 1), values, strict=True)
    (tmp_path / "runs.csv").write_text("arm,seed,acc\n" + "".join(f"{a},{s},{v}\n" for a, s, v in rows))
    assert dispatch(["judge", str(tmp_path / "runs.csv")]) == 0
    out = capsys.readouterr().out
    assert (said in out) if said else ("fractions?" not in out and "no accuracy" not in out)
