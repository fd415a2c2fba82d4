"""One battery over every overlay in configs/technique/. A new technique is tested by being there."""

from pathlib import Path

import pytest

from helpers.trainings import OVERLAYS, subject_of
from paribus.conformance.battery import CHECKS, Check, NotApplicable


@pytest.mark.parametrize("techniques", OVERLAYS, ids=lambda t: "+".join(t) or "baseline")
@pytest.mark.parametrize("check", CHECKS.values(), ids=lambda check: check.__name__)
def test_every_overlay_passes(check: Check, techniques: tuple[str, ...], tmp_path: Path) -> None:
    try:
        assert check(subject_of(techniques), tmp_path)
    except NotApplicable as reason:
        pytest.skip(str(reason))
