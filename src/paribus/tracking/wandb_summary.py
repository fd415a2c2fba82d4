"""One W&B run that sums up a study. Only on request, and W&B is imported only then.

WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY and WANDB_DIR are honoured; online where the user is logged in, else offline.
"""

import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paribus.core.errors import ConfigError

PROJECT, JOB_TYPE = "paribus", "report"


@dataclass(frozen=True)
class StudySummary:
    """numbers: for the run's summary. tables: name -> head, rows. images: name -> caption, PNG. page: an HTML file."""

    group: str
    title: str
    config: Mapping[str, Any]
    numbers: Mapping[str, float | str]
    tables: Mapping[str, tuple[Sequence[str], Sequence[Sequence[str]]]]
    images: Mapping[str, tuple[str, bytes]]
    page: Path


def send_summary(summary: StudySummary, home: Path) -> str:
    """Returns one line that says where it went. Raises ConfigError if W&B does not accept it."""
    mode = os.environ.get("WANDB_MODE") or None
    if mode == "disabled":
        return "W&B: nothing was sent, since WANDB_MODE=disabled"
    import wandb
    from PIL import Image

    where = Path(os.environ.get("WANDB_DIR") or home)
    try:
        where.mkdir(parents=True, exist_ok=True)
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            group=summary.group,
            job_type=JOB_TYPE,
            name=f"{summary.group} report",
            notes=summary.title,
            config=dict(summary.config),
            mode=None if mode else "online" if wandb.api.api_key else "offline",  # pyright: ignore[reportArgumentType]
            dir=str(where),
            settings=wandb.Settings(silent=True, console="off"),
        )
        with run:
            tables = {
                f"tables/{k}": wandb.Table(list(h), [list(r) for r in rows]) for k, (h, rows) in summary.tables.items()
            }
            images = {
                f"figures/{k}": wandb.Image(Image.open(io.BytesIO(png)), caption=caption)
                for k, (caption, png) in summary.images.items()
            }
            run.log({**tables, **images, "report": wandb.Html(summary.page.read_text(encoding="utf-8"), inject=False)})
            finite = {k: v for k, v in summary.numbers.items() if isinstance(v, str) or math.isfinite(v)}
            run.summary.update(finite)
            offline, folder = run.offline, Path(run.dir).parent
            url = None if offline else run.url
    except (OSError, wandb.Error) as error:
        raise ConfigError(f"--wandb: {error}; the report itself is written") from error
    return f"W&B: {folder} (wandb sync uploads it)" if offline else f"W&B: {url}"
