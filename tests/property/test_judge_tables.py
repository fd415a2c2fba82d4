"""Any table: the same verdict however it is written, and a mistake is a ConfigError of one line."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from paribus.core.errors import ConfigError
from paribus.study.judge.files import judge_files
from paribus.study.judge.judged import Judged, JudgeOptions
from paribus.study.judge.table import SourceTable, read_table

TEXT = st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]), min_size=1, max_size=8)
NUMBER = st.floats(-1e6, 1e6).map(lambda x: round(x, 6))
RUNS = st.lists(st.tuples(st.sampled_from(["base", "ä, b", 'the "new" one']), st.integers(0, 9), NUMBER), min_size=4)


def write(text: str, folder: str, encoding: str = "utf-8") -> Path:
    path = Path(folder) / "table"
    path.write_bytes(text.encode(encoding))
    return path


def read(text: str, encoding: str = "utf-8") -> SourceTable:
    with TemporaryDirectory() as folder:
        return read_table(write(text, folder, encoding))


def to_csv(head: Sequence[str], rows: Sequence[Sequence[Any]], delimiter: str = ",", quoted: bool = False) -> str:
    out = io.StringIO()
    quoting = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    csv.writer(out, delimiter=delimiter, quoting=quoting).writerows([head, *rows])
    return out.getvalue()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(TEXT, min_size=2, max_size=4, unique=True),
    st.lists(st.lists(TEXT, min_size=4, max_size=4), min_size=1, max_size=5),
    st.sampled_from([",", ";", "\t"]),
    st.booleans(),
    st.sampled_from(["utf-8", "utf-8-sig"]),
)
def test_cells_come_back_as_they_were_written(
    head: list[str], rows: list[list[str]], delimiter: str, quoted: bool, encoding: str
) -> None:
    assume(not any(mark in "".join(head) for mark in ',;\t"[{') and any(not h.replace(".", "").isdigit() for h in head))
    assume(not all(h.strip("+-.0123456789eE") == "" for h in head))
    cells = [row[: len(head)] for row in rows]
    table = read(to_csv(head, cells, delimiter, quoted), encoding)
    assert (list(table.columns), [list(row) for row in table.rows]) == (head, cells)


def judge(text: str, encoding: str = "utf-8") -> Judged:
    with TemporaryDirectory() as folder:
        return judge_files([write(text, folder, encoding)], JudgeOptions(against="base", higher=True, margin="1000"))


def verdicts(judged: Judged) -> dict[str, tuple[Any, ...]]:
    return {c.arm: (c.judgement, c.estimate, c.paired, c.seeds) for c in judged.comparisons}


@settings(max_examples=25, deadline=None)
@given(RUNS, st.randoms(use_true_random=False))
def test_the_verdict_is_the_same_however_the_rows_are_written(rows: list[tuple[str, int, float]], shuffle: Any) -> None:
    runs = list({(arm, seed): (arm, seed, value) for arm, seed, value in rows}.values())
    arms = {arm for arm, _, _ in runs}
    assume("base" in arms and len(arms) > 1)
    head = ["arm", "seed", "value"]
    expected = repr(verdicts(judge(to_csv(head, runs))))
    commas = [(arm, seed, repr(value).replace(".", ",")) for arm, seed, value in runs]
    objects = [dict(zip(head, run, strict=True)) for run in runs]
    nested = [{"arm": arm, "config": {"seed": seed}, "value": value} for arm, seed, value in runs]
    for text, encoding in (
        (to_csv(head, runs, quoted=True), "utf-8-sig"),
        (to_csv(head, runs, "\t"), "utf-8"),
        (to_csv(head, commas, ";"), "utf-8"),
        (to_csv(head, runs).replace("\r\n", "\n\n"), "utf-8"),
        (to_csv(head, runs).replace("\r\n", "\r"), "utf-8"),
        ("\n".join(json.dumps(row) for row in objects), "utf-8"),
        (json.dumps(objects, indent=1), "utf-8"),
    ):
        assert repr(verdicts(judge(text, encoding))) == expected
    with TemporaryDirectory() as folder:
        path = write("\n".join(json.dumps(row) for row in nested), folder)
        asked = JudgeOptions(columns={"seed": "config.seed"}, against="base", higher=True, margin="1000")
        assert repr(verdicts(judge_files([path], asked))) == expected
    shuffle.shuffle(runs)
    shuffled, ordered = (verdicts(judge(to_csv(head, rows))) for rows in (runs, sorted(runs)))
    assert {arm: repr(found) for arm, found in shuffled.items()} == {arm: repr(x) for arm, x in ordered.items()}


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(st.sampled_from(["arm", "seed", "value", ",", "\n", '"', "1", "0.5", "nan", "{", "}", "[", ":"])).map(
            "".join
        ),
    ),
    st.booleans(),
)
def test_no_text_does_worse_than_one_line(text: str, examples: bool) -> None:
    assume(not any("\ud800" <= c <= "\udfff" for c in text))
    with TemporaryDirectory() as folder:
        path = write(text, folder)
        said = ""
        try:
            judge_files([path], JudgeOptions(against="arm", margin="1"), examples)
        except ConfigError as error:
            said = str(error)
        assert "\n" not in said


def test_negative_control_a_swapped_value_is_another_verdict() -> None:
    runs = [("base", 0, 1.0), ("base", 1, 2.0), ("new", 0, 3.0), ("new", 1, 5.0)]
    swapped = [*runs[:2], ("new", 0, 5.0), ("new", 1, 3.0)]
    head = ["arm", "seed", "value"]
    with pytest.raises(AssertionError):
        assert verdicts(judge(to_csv(head, runs))) == verdicts(judge(to_csv(head, swapped)))
