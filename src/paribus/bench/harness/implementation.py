"""Shared types of a comparison: implementations of one thing, what they are checked against, their speed targets."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal

import torch

Status = Literal["measured", "wrong", "failed", "not available", "not installed"]


class Unavailable(Exception):
    """An implementation is not available here, which is no error: its row says why."""

    def __init__(self, status: Status, reason: str = "") -> None:
        super().__init__(reason)
        self.status: Status = status
        self.reason = reason


@dataclass(frozen=True)
class PreparedImplementation:
    """An implementation ready to be timed.

    error: how far its result is from the truth, in the case's measure (inf: not of the right kind at all); called once,
    before any timing. call: one unit of work, to be timed. note: what a reader of its time should know.
    session: entered around each sample, untimed: starts and stops what must not run while others are timed. min_calls:
    calls of a sample at the least, where results come in bursts.
    """

    error: Callable[[], float]
    call: Callable[[], object]
    note: str = ""
    session: Callable[[], AbstractContextManager[object]] = nullcontext
    min_calls: int = 1


@dataclass(frozen=True)
class Implementation:
    """One implementation. name: as a user would write it. package: the distribution it comes from.

    prepare: makes it; raises Unavailable, or anything else, which the row will report. kind: floor does less work, as a
    lower bound; only `public` ones can be the fastest public implementation.
    """

    name: str
    package: str
    prepare: Callable[[], PreparedImplementation]
    kind: Literal["ours", "public", "floor"] = "public"


@dataclass(frozen=True)
class SpeedTarget:
    """`subject` should take at most `at_most` times as long as `against`; None is the fastest public one."""

    subject: str
    against: str | None
    at_most: float
    description: str


@dataclass(frozen=True)
class Case:
    """Implementations that do the same work.

    title: one within a technique. work: what one call does. truth: what errors are measured against. baseline: the
    implementation whose time is 1; None is the fastest public one. samples: images per call, 0 where a rate means
    nothing. numbers: properties of the case itself, such as parameters.
    """

    technique: str
    title: str
    work: str
    truth: str
    tolerance: float
    implementations: tuple[Implementation, ...]
    baseline: str | None = None
    targets: tuple[SpeedTarget, ...] = ()
    samples: int = 0
    numbers: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Scope:
    """The device, and how much: quick takes the smallest case of each technique."""

    device: torch.device
    quick: bool = False

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"


def version(package: str) -> str | None:
    """Of an installed distribution; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def require_package(package: str) -> None:
    """Raise Unavailable unless this package (distribution and module of one name) is installed."""
    if version(package) is None or importlib.util.find_spec(package) is None:
        raise Unavailable("not installed")
