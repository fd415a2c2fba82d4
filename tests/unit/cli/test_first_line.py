"""The first line of `paribus train`: what it says, and when there is none."""

import pytest

from paribus.cli.first_line import format_first_line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "paribus train: the default recipe → composing..."),
        (["experiment=quickstart"], "paribus train: experiment quickstart → composing..."),
        (
            ["seed=2", "technique=[pit,cutmix]", "experiment=x", "optimizer.lr=1"],
            "paribus train: experiment x, technique [pit,cutmix], seed 2 → composing...",
        ),
        (["-m", "experiment=x", "seed=0,1"], "paribus train -m: experiment x, seed 0,1 → composing..."),
        (["--config-dir", "lab", "experiment=x"], "paribus train: experiment x → composing..."),
        (["--config-dir=lab", "experiment=x", "+a.b=1"], "paribus train: experiment x → composing..."),
    ],
)
def test_it_says_what_was_asked_for(words: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert format_first_line(words) == said


@pytest.mark.parametrize(
    "words",
    [
        ["-q", "experiment=x"],
        ["experiment=x", "--quiet"],
        ["--help"],
        ["-h", "experiment=x"],
        ["--cfg", "job"],
        ["-c", "job", "experiment=x"],
        ["--info"],
        ["--hydra-help"],
        ["--lr", "0.1"],  # a mistake
        ["smoke"],  # another one
        ["--help", "optimizer"],
    ],
)
def test_there_is_none_where_less_or_something_else_is_printed(words: list[str]) -> None:
    assert format_first_line(words) is None


@pytest.mark.parametrize("name", ["RANK", "SLURM_PROCID"])
def test_only_the_first_process_of_a_run_says_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "0")
    assert format_first_line(["experiment=x"])
    monkeypatch.setenv(name, "3")
    assert format_first_line(["experiment=x"]) is None
