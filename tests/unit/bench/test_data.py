"""The bench of training input: every feed here delivers what it should, and one that does not is told."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from paribus.bench.data import cases, checks
from paribus.bench.data.cases import EXACT, JPEG, LEVELS, check_boxes, check_boxes_of_files, check_windows, prepare_feed
from paribus.bench.data.pipelines import ImageArrays, InputTask, Pair, TimmLoader, TorchvisionLoader, paribus_loader
from paribus.bench.harness import timing
from paribus.bench.harness.implementation import Case, Implementation, Scope
from paribus.bench.harness.measure import measure
from paribus.cli.main import dispatch

CPU = torch.device("cpu")
FEEDS: dict[str, Any] = {
    "ours": paribus_loader,
    "v1": TorchvisionLoader("v1", 0),
    "v2": TorchvisionLoader("v2", 0),
    "timm": TimmLoader(0),
}
PADDED, MIXED, RESIZED = (
    InputTask("pad", 32, 32, CPU),
    InputTask("pad", 32, 32, CPU, cutmix=True),
    InputTask("resized", 48, 32, CPU),
)


@pytest.mark.parametrize("feed", FEEDS.values(), ids=FEEDS)
def test_windows_and_mixtures_are_right(feed: Any) -> None:
    assert check_windows(feed, PADDED) < EXACT
    assert check_windows(feed, MIXED) < EXACT


@pytest.mark.parametrize("feed", FEEDS.values(), ids=FEEDS)
@pytest.mark.parametrize("side", [64, 40])  # most boxes are made smaller, or larger
def test_boxes_are_right(feed: Any, side: int) -> None:
    assert check_boxes(feed, RESIZED, side) < LEVELS


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # timm leaves files open
@pytest.mark.parametrize("feed", FEEDS.values(), ids=FEEDS)
def test_boxes_from_files_are_right(feed: Any) -> None:
    assert check_boxes_of_files(feed, RESIZED, 64) < JPEG


def changed(feed: Any, change: Callable[[torch.Tensor, torch.Tensor], Pair]) -> Any:
    @contextmanager
    def opened(task: InputTask, source: Any) -> Iterator[Iterator[Pair]]:
        with feed(task, source) as batches:
            yield (change(*pair) for pair in batches)

    return opened


def as_if(feed: Any, **other: Any) -> Any:
    """The feed, given another task than it was asked for."""
    from dataclasses import replace

    return lambda task, source: feed(replace(task, **other), source)


@contextmanager
def sorted_feed(task: InputTask, source: ImageArrays) -> Iterator[Iterator[Pair]]:
    with paribus_loader(task, source) as batches:
        epoch = [next(batches) for _ in range(len(source) // task.batch)]
        inputs, targets = (torch.cat(parts) for parts in zip(*epoch, strict=True))
        order = targets.argsort()
        yield iter(zip(inputs[order].split(task.batch), targets[order].split(task.batch), strict=True))


WINDOW_MUTANTS = {
    "not normalised": changed(paribus_loader, lambda x, y: (x * 0.5, y)),
    "normalised a little wrong": changed(paribus_loader, lambda x, y: (x + 2e-3, y)),
    "wraps around": changed(paribus_loader, lambda x, y: (x.roll(9, 3), y)),
    "upside down": changed(paribus_loader, lambda x, y: (x.flip(2), y)),
    "never mirrored": changed(paribus_loader, lambda x, y: (torch.where(y[:, None, None, None] % 2 == 0, x, x[:1]), y)),
    "labels of others": changed(paribus_loader, lambda x, y: (x, y.roll(1))),
    "not augmented": as_if(paribus_loader, crop="none"),
    "half precision": changed(paribus_loader, lambda x, y: (x.half(), y)),
    "a smaller batch": as_if(paribus_loader, batch=16),
    "not shuffled": sorted_feed,
    "the first batch again": changed(paribus_loader, lambda x, y, kept=[]: (kept.append((x, y)), kept[0])[1]),
}


@pytest.mark.parametrize("feed", WINDOW_MUTANTS.values(), ids=WINDOW_MUTANTS)
def test_negative_control_the_check_of_windows_notices(feed: Any) -> None:
    assert check_windows(feed, PADDED) > EXACT


BOX_MUTANTS = {
    "whole images, resized": changed(paribus_loader, lambda x, y: (_whole(x, y), y)),
    "upside down": changed(paribus_loader, lambda x, y: (x.flip(2), y)),
    "one column off": changed(
        paribus_loader, lambda x, y: (torch.cat((x[..., :1], x[..., :1], x[..., 2:]), 3) + 0.05, y)
    ),
    "turned": changed(paribus_loader, lambda x, y: (x.transpose(2, 3), y)),
    "labels of others": changed(paribus_loader, lambda x, y: (x, y.roll(1))),
    "a window without resizing": changed(paribus_loader, lambda x, y: (_corner(y), y)),
}


def _whole(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    images = torch.from_numpy(checks.make_ruler_images(64).images).permute(0, 3, 1, 2)[y]
    return checks.normalise_pixels(
        torch.nn.functional.interpolate(images.float(), x.shape[-1], mode="bilinear")
    ).float()


def _corner(y: torch.Tensor) -> torch.Tensor:
    images = torch.from_numpy(checks.make_ruler_images(64).images).permute(0, 3, 1, 2)[y]
    return checks.normalise_pixels(images[:, :, :48, :48]).float()


@pytest.mark.parametrize("feed", BOX_MUTANTS.values(), ids=BOX_MUTANTS)
def test_negative_control_the_check_of_boxes_notices(feed: Any) -> None:
    assert check_boxes(feed, RESIZED, 64) > LEVELS


MIX_MUTANTS = {
    "nothing is mixed": lambda x, w: (x, torch.eye(64)[w.argmax(1)]),
    "labels are not": lambda x, w: (x, 0.5 * w + 0.5 * torch.eye(64)[w.argmax(1)]),
    "weights do not sum to 1": lambda x, w: (x, w * 0.9),
    "of other images": lambda x, w: (x, w.roll(1, 1)),
}


@pytest.mark.parametrize("change", MIX_MUTANTS.values(), ids=MIX_MUTANTS)
def test_negative_control_the_check_of_mixtures_notices(change: Any) -> None:
    both = changed(paribus_loader, lambda x, y: change(x, y) if y.ndim == 2 else (x, y))
    assert check_windows(both, MIXED) > EXACT


def test_a_wrong_feed_is_not_timed_and_a_right_one_is() -> None:
    source = checks.make_noise_images(32)

    def entry(name: str, feed: Any) -> Implementation:
        return Implementation(name, "torch", lambda: prepare_feed(feed, PADDED, source, check_windows, 0))

    feeds = {"right": paribus_loader, "wrong": WINDOW_MUTANTS["labels of others"]}
    case = Case("data", "a case", "", "", EXACT, tuple(entry(name, feed) for name, feed in feeds.items()))
    result = measure(case, CPU, 2, 1e-4)
    assert [row.status for row in result.rows] == ["measured", "wrong"]
    assert len(result.row("right").seconds) == 2
    assert result.row("wrong").seconds == ()


def test_a_session_is_entered_around_each_sample() -> None:
    events: list[str] = []

    @contextmanager
    def session() -> Iterator[None]:
        events.append("(")
        yield
        events.append(")")

    def clock(call: Callable[[], object], times: int) -> float:
        events.append(str(times))
        return 1.0 * times

    timing.time_interleaved({"a": lambda: None}, clock, 2, 2.0, {"a": (session, 3)})
    assert "".join(events) == "(23)(3)(3)"


def test_cases_have_their_targets_and_contenders() -> None:
    made = cases.make_packed_case(Scope(CPU))
    assert [c.name for c in made.implementations][:2] == ["paribus", "torchvision v1 + DataLoader, 0 workers"]
    assert len(made.implementations) == 10
    assert made.targets[0].at_most == 0.2
    assert made.targets[0].against is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["data", "--root", "no/such/tree"], "has no folder train"),
        (["data", "--only", "words"], "in no title"),
        (["data", "--repeats", "0"], "at least 1"),
        (["start", "everything"], "everything"),
    ],
)
def test_wrong_input_is_told_in_one_line(arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["bench", *arguments]) == 2
    told = capfd.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_the_page_tells_rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, source = PADDED, checks.make_noise_images(32)
    entry = Implementation(
        "paribus", "paribus", lambda: prepare_feed(paribus_loader, task, source, check_windows, 0), "ours"
    )
    case = Case("data", "small", "Work.", "truth", EXACT, (entry,), samples=32)
    monkeypatch.setattr(cases, "cases", lambda scope, root: iter([("small", lambda: case)]))
    page = tmp_path / "data.md"
    assert dispatch(["bench", "data", "--quick", "--repeats", "1", "--device", "cpu", "--out", str(page)]) == 0
    assert "# Training input, images a second" in page.read_text()
    assert "| images/s |" in page.read_text()
