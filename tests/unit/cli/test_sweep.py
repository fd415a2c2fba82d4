"""The table at the end of a sweep, and jobs that are the same run."""

from pathlib import Path

import pytest

from paribus.cli.sweep import Job, JobResult, check_distinct, format_table
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import BAD_CONFIG, FAILED, OK, REQUEUE


def result(*overrides: str, code: int = OK, message: str = "", **metrics: float) -> JobResult:
    return JobResult(
        ("experiment=smoke", *overrides), code, message, {k.replace("_", "/"): v for k, v in metrics.items()}
    )


def test_the_table_names_what_varies_and_marks_the_best() -> None:
    lines = format_table(
        [
            result("optimizer.lr=0.1", "seed=0", val_acc1=0.5, val_loss=1.0),
            result("optimizer.lr=0.01", "seed=0", val_acc1=0.625, val_loss=2.0),
            result("optimizer.lr=1", "seed=1", code=FAILED, message="the loss is not finite", val_acc1=0.99),
            result("optimizer.lr=-1", "seed=1", code=BAD_CONFIG, message="optimizer.lr: " + "x" * 200),
            result("optimizer.lr=2", "seed=1", code=REQUEUE),
        ]
    )
    assert lines[:4] == [
        "job  optimizer.lr  seed  val/acc1",
        "  1  0.1           0       50.00%",
        "  2  0.01          0       62.50%  best",
        "  3  1             1               failed: the loss is not finite",
    ]
    assert lines[4].split()[3:6] == ["wrong", "input:", "optimizer.lr:"]
    assert len(lines[4]) < 120
    assert lines[5].endswith("  stopped")


@pytest.mark.parametrize(
    ("results", "head", "best"),
    [
        ([result("seed=0", val_loss=0.1), result("seed=1", val_loss=0.2)], "val/loss", [1]),
        ([result("seed=0", val_acc1=0.5), result("seed=1", val_acc1=0.5)], "val/acc1", [1, 2]),
        ([result("seed=0", val_acc1=0.9, minival_acc1=0.1), result("seed=1", val_acc1=0.8, minival_acc1=0.2)],
         "minival/acc1", [2]),
        ([result("seed=0", val_acc1=0.5), result("seed=1", code=FAILED)], "val/acc1", []),  # nothing to be better than
    ],
)  # fmt: skip
def test_by_which_metric_and_which_is_best(results: list[JobResult], head: str, best: list[int]) -> None:
    first, *lines = format_table(results)
    assert first.split()[-1] == head
    assert [i for i, line in enumerate(lines, 1) if line.endswith("best")] == best


def test_without_any_metric_there_are_states() -> None:
    assert format_table([result("a=1", code=FAILED), result("a=2", code=FAILED)])[1] == "  1  1  failed"


def job(*overrides: str) -> Job:
    return Job({}, (), (), (), overrides)


def test_the_same_folder_twice_is_refused_with_both_jobs() -> None:
    jobs = [job("experiment=x", "lr=1"), job("experiment=x", "lr=1.0"), job("experiment=x", "lr=bad")]
    arguments = ["experiment=x", "lr=1,1.0,bad"]
    check_distinct(jobs, [Path("a"), Path("b"), None], arguments)
    check_distinct(jobs, [None, None, None], arguments)
    with pytest.raises(ConfigError, match=r"jobs 1 \(lr=1\) and 2 \(lr=1\.0\) are the same run, a; leave one"):
        check_distinct(jobs, [Path("a"), Path("a"), None], arguments)
