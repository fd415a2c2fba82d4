"""What one check of the machine found: a line that says what is there, or what is missing and how to get it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "missing", "warning"]


@dataclass(frozen=True)
class Finding:
    """name: of the check. found: what is there, or what is not. remedy: what to do about it; "" where nothing is
    wrong. warning: it works, but not as well as it could."""

    name: str
    state: State
    found: str
    remedy: str = ""


def format_findings(findings: Sequence[Finding]) -> str:
    """One line each, aligned."""
    width = max((len(f.name) for f in findings), default=0)
    return "\n".join(f"{f.state:<8}{f.name:<{width}}  {f.found}{f'; {f.remedy}' * bool(f.remedy)}" for f in findings)
