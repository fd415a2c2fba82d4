"""Names of core that were there in 0.1 go on working for one release, and say what they are called now."""

import importlib
import sys

import pytest
import torch

from paribus.core.batch import Batch
from paribus.core.meta import to_meta

OLD = {
    "paribus.core.protocols": ("Place", "Workshop", "Average", "Diagnoses", "Learns"),
    "paribus.core.build": ("checked", "called_like", "describe", "near"),
    "paribus.core.batch": ("named", "COPY"),
    "paribus.core.mixing": ("told_ids", "inside", "soft", "label_type", "mixed_targets", "beta", "betas", "Partner"),
    "paribus.core.streams": ("drawing_from", "uniform_from"),
    "paribus.core.sums": ("mean_of",),
    "paribus.core.runfolder": ("made", "state", "mark", "sweep", "segments", "saved_step", "sync_folder"),
    "paribus.core.lock": ("me", "holder"),
    "paribus.core.native": ("NotCompiled", "library", "parallel"),
    "paribus.core.terminal": ("Tolerant", "terminal", "clock"),
    "paribus.core.events": ("event_in",),
}


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in OLD.items() for name in names])
def test_an_old_name_is_found_with_a_warning(module: str, name: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"{module}.{name} is now called"):
        assert getattr(importlib.import_module(module), name) is not None


def test_negative_control_a_name_that_never_was_is_not_found() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nobody'"):
        _ = importlib.import_module("paribus.core.protocols").nobody


def test_the_old_module_of_to_meta_is_there() -> None:
    sys.modules.pop("paribus.core.shadow", None)
    with pytest.warns(DeprecationWarning, match="to_meta"):
        module = importlib.import_module("paribus.core.shadow")
    assert module.shadow_of is to_meta


def test_a_batch_still_goes_through_a_change() -> None:
    ids = torch.arange(2)
    batch = Batch(torch.zeros(2, 1, 2, 2), ids, ids, ids, 2, 2)
    with pytest.warns(DeprecationWarning, match="apply"):
        assert batch.through(lambda b: b) is batch
