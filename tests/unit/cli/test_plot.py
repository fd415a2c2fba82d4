"""`paribus plot`: which runs share a line, what it is called, and the file that comes of it."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.trainings import recipe_of
from paribus.cli import plot
from paribus.cli.main import dispatch
from paribus.core.errors import ConfigError

SMOKE = ["experiment=smoke"]


def recorded(folder: Path, *overrides: str, techniques: tuple[str, ...] = (), **config: Any) -> Path:
    """A run folder with the config of this recipe, and two evaluations."""
    recipe = recipe_of(*SMOKE, *overrides, techniques=techniques)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({**recipe.config, **config}))
    events = [
        {"step": step, "values": {"train/loss": 2.0 / step, "val/acc1": 0.1 * step + 0.01 * recipe.seed, "lr": 0.0}}
        for step in (1, 2, 3)
    ]
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


def labels(*folders: Path) -> list[str]:
    return list(plot.label_groups(plot.group_runs(folders)))


def test_runs_that_differ_in_the_seed_alone_share_a_line(tmp_path: Path) -> None:
    runs = [recorded(tmp_path / f"s{s}", f"seed={s}") for s in (0, 1, 2)]
    assert labels(*runs) == ["baseline (3 seeds)"]
    assert labels(runs[0]) == ["baseline"]
    other = recorded(tmp_path / "again", "seed=0")
    assert labels(*runs, other) == [f"baseline ({runs[0]}) (3 seeds)", f"baseline ({other})"]


def test_a_line_is_called_by_what_differs(tmp_path: Path) -> None:
    base = recorded(tmp_path / "base")
    cutmix = recorded(tmp_path / "cutmix", techniques=("cutmix",))
    adamp = recorded(tmp_path / "adamp", techniques=("adamp",))
    slow = recorded(tmp_path / "slow", "optimizer.lr=0.001")
    assert labels(base, cutmix, adamp) == ["baseline", "cutmix", "adamp"]
    assert labels(base, slow) == ["optimizer.lr=0.01", "optimizer.lr=0.001"]
    assert labels(base, slow, cutmix) == [f"{name}, optimizer.lr={lr}" for name, lr in (
        ("baseline", "0.01"), ("baseline", "0.001"), ("cutmix", "0.01")
    )]  # fmt: skip


def test_settings_of_a_technique_count_where_they_differ_among_its_runs(tmp_path: Path) -> None:
    one = recorded(tmp_path / "1", "transforms.cutmix.alpha=1.0", techniques=("cutmix",))
    other = recorded(tmp_path / "2", "transforms.cutmix.alpha=0.2", techniques=("cutmix",))
    base = recorded(tmp_path / "3")
    assert labels(one, other) == ["transforms.cutmix.alpha=1", "transforms.cutmix.alpha=0.2"]
    assert labels(base, one, other)[1:] == ["cutmix, transforms.cutmix.alpha=1", "cutmix, transforms.cutmix.alpha=0.2"]


def test_another_class_is_named_without_its_settings_and_another_recipe_by_its_name(tmp_path: Path) -> None:
    base = recorded(tmp_path / "1")
    sgd = recorded(tmp_path / "2", "optimizer=sgd", "optimizer.lr=0.01")
    assert labels(base, sgd)[0].startswith("optimizer=AdamW")
    assert "momentum" not in labels(base, sgd)[1]
    other = recorded(tmp_path / "3", "batch_size=8", name="mine")
    assert labels(base, other) == ["smoke", "mine"]


def test_where_very_much_differs_a_label_ends(tmp_path: Path) -> None:
    many = ("optimizer.lr=0.1", "optimizer.weight_decay=0.1", "batch_size=8", "steps=9ba", "ema.decay=0.5")
    (long, _) = labels(recorded(tmp_path / "1", *many), recorded(tmp_path / "2"))
    assert long.endswith(", …")
    assert long.count("=") == plot.MAX_SETTINGS


@pytest.mark.parametrize(
    ("suffix", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("html", b"<!doctype html>")]
)
def test_every_kind_of_file(suffix: str, begins: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [recorded(tmp_path / f"s{s}", f"seed={s}") for s in (0, 1)]
    runs.append(recorded(tmp_path / "cutmix", techniques=("cutmix",)))
    out = tmp_path / "new" / f"picture.{suffix}"
    written: list[bytes] = []
    for _ in range(2):
        assert dispatch(["plot", *map(str, runs), "--out", str(out)]) == 0
        written.append(out.read_bytes())
    assert written[0] == written[1], "the same runs give the same bytes"
    assert written[0].startswith(begins)
    assert f"{out}: train/loss, val/acc1 of 3 runs; 2 lines: baseline (2 seeds); cutmix" in capsys.readouterr().out
    if suffix in ("svg", "html"):
        page = written[0].decode()
        for text in ("baseline (2 seeds)", "cutmix", "val/acc1 (%)", "one standard deviation"):
            assert text in page


def test_where_the_picture_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recorded(Path("runs/a"))
    assert dispatch(["plot", "runs/a", "--metric", "lr"]) == 0
    assert Path("runs/a/curves.png").exists()
    recorded(Path("runs/b"), "seed=1")
    assert dispatch(["plot", "runs"]) == 0
    assert Path("curves.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs/a", "--out", "x.jpg"], "--out: found x.jpg; the name should end in one of .png, .svg, .pdf, .html"),
        (["runs/a", "--metric", "val/acc"], "--metric val/acc: no run has it (did you mean val/acc1?)"),
        (["runs/b"], "no run there"),
        (["runs/a", "--out", "in/the/way.png"], "cannot be written"),
        ([], "the following arguments are required: RUN"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    recorded(Path("runs/a"))
    Path("in").write_text("")
    assert dispatch(["plot", *words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_run_without_the_usual_metrics_says_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no run has train/loss or val/acc1 yet; --metric takes any of lr"):
        plot.choose_metrics(None, {"lr"})
    assert plot.choose_metrics(None, {"train/loss", "lr"}) == ["train/loss"]


def test_each_line_has_a_look_of_its_own() -> None:
    from paribus.study.report.figures.overlay import choose_line_styles

    names = [f"arm {i}" for i in range(22)]
    styles = choose_line_styles(names, "arm 3")
    assert len(set(styles.values())) == 22
    assert styles["arm 3"].dashes == ""


@pytest.mark.parametrize(
    ("steps", "ticks"),
    [((0,), [0, 1]), ((1,), [0, 1]), ((19,), None), ((4000,), None), ((1, 2), [1, 2]), ((1, 2, 3), [1, 2, 3])],
)
def test_steps_are_whole_numbers(steps: tuple[int, ...], ticks: list[int] | None) -> None:
    from paribus.study.analysis.curves import compute_bands
    from paribus.study.report.figures.overlay import choose_line_styles, draw_picture

    curves = {0: {"val/acc1": [[step, 0.5] for step in steps]}}
    groups = {"a": {"val/acc1": compute_bands({"": curves}, "val/acc1")[""]}}
    axes = draw_picture(groups, ["val/acc1"], choose_line_styles(["a"], None), "", "").axes[0]
    low, high = axes.get_xlim()
    assert low <= steps[0] <= steps[-1] <= high
    shown = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert all(tick == round(tick) for tick in shown)
    assert shown == ticks if ticks else (shown[0] == 0 and len(shown) > 2)
