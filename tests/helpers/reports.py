"""Rows of runs that never were, for tests of the report: curves that rise and level off, with a spread between seeds.

Numbers belong to their cell's name, so that a row is the same whichever others are made beside it.
"""

import math
import random
from collections.abc import Iterable, Mapping
from typing import Any

from paribus.study.analysis.question import AnalysisSpec
from paribus.study.rows import Row

STEPS = 400


def invented(arm: str, seed: int, level: float = 0.9, *, points: int = 10, sd: float = 0.004, **changes: Any) -> Row:
    """A run whose val/acc1 ends near level; half of the spread is the seed's own, shared with other arms."""
    shared, own = random.Random(f"seed {seed}"), random.Random(f"{arm} {seed}")
    end = level + sd * (shared.gauss(0, 1) + own.gauss(0, 1)) / math.sqrt(2)
    steps = [STEPS * (i + 1) // points for i in range(points)]
    share = [1 - math.exp(-6 * step / STEPS) for step in steps]
    accuracy = [round(end * s + own.gauss(0, sd / 4), 4) for s in share[:-1]] + [round(end, 4)]
    loss = [2.3 * (1 - s) + 0.3 + abs(own.gauss(0, 0.01)) for s in share]
    values: dict[str, Any] = {
        "study": "invented",
        "arm": arm,
        "seed": seed,
        "id": f"{arm}-{seed}",
        "state": "done",
        "metrics": {"train/loss": loss[-1] / 2, "val/acc1": accuracy[-1], "val/loss": loss[-1]},
        "curves": {
            "train/loss": [[s, v / 2] for s, v in zip(steps, loss, strict=True)],
            "val/acc1": [[s, v] for s, v in zip(steps, accuracy, strict=True)],
            "val/loss": [[s, v] for s, v in zip(steps, loss, strict=True)],
        },
        "cost": {
            "train_s": 60 * (1 + len(arm) / 20) * (1 + own.gauss(0, 0.02)),
            "eval_s": 2.0,
            "samples_per_sec": 4000.0,
            "peak_gb": 1.2 + len(arm) / 40,
            "parameters": 11_200_000,
            "macs": 556_000_000 + 10_000_000 * len(arm),
        },
        "steps": STEPS,
        "sizes": {"train": 50_000, "val": 10_000},
        "data_checksum": "d" * 64,
        "fingerprint": {"code": "c" * 16, "device": "AVX512", "threads": 1, "torch": "2.15.0", "world_size": 1},
        "segments": 1,
        "mixed": False,
        "commit": "0123456789abcdef",
        "dirty": False,
        "hardware": {"cpu": "made up", "cores": 2, "gpu": None},
        "started": "2026-11-20T08:00:00+00:00",
    }
    return Row(**{**values, **changes})


def failed(arm: str, seed: int, why: str = "the loss is not finite at step 120", **changes: Any) -> Row:
    return invented(arm, seed, state="failed", metrics={}, curves={}, cost={}, why=why, **changes)


def rows_for(levels: Mapping[str, float], seeds: Iterable[int], **changes: Any) -> list[Row]:
    return [invented(arm, seed, level, **changes) for arm, level in levels.items() for seed in seeds]


def question(arms: Iterable[str], planned: Iterable[int], **changes: Any) -> AnalysisSpec:
    """Every other arm against the first one, with a margin of one point."""
    first, *others = arms = list(arms)
    values: dict[str, Any] = {
        "name": "invented",
        "question": "What is it worth?",
        "arms": {arm: () if arm == first else (f"technique={arm}",) for arm in arms},
        "pairs": tuple((arm, first) for arm in others),
        "metric": "val/acc1",
        "margin": 0.01,
        "seeds": tuple(planned),
        "factors": {},
        "settings": "as in the paper",
        "recipe": ("experiment=smoke",),
        "again": ("paribus study run experiments/invented", "paribus study report experiments/invented"),
    }
    return AnalysisSpec(**{**values, **changes})
