"""Every program in examples/ runs, and does what it says."""

import importlib.util
import logging
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import paribus

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_plain_loop_learns_the_digits(capsys: pytest.CaptureFixture[str]) -> None:
    accuracy = example("plain_loop").main()
    assert accuracy > 0.93
    assert f"{accuracy:.3f}" in capsys.readouterr().out


def test_timms_factory_makes_our_adamp_with_the_authors_values(caplog: pytest.LogCaptureFixture) -> None:
    from timm.optim import create_optimizer_v2, list_optimizers

    assert "paribusadamp" not in list_optimizers()
    with caplog.at_level(logging.WARNING):
        by_name, directly = example("timm_factory").main()
    assert not caplog.records  # nothing of timm's was overwritten
    assert type(by_name) is type(directly) is paribus.AdamP
    for optimizer in (by_name, directly):
        assert {(g["wd_ratio"], g["nesterov"]) for g in optimizer.param_groups} == {(0.1, False)}
        assert sorted((len(g["params"]), g["weight_decay"]) for g in optimizer.param_groups) == [(21, 0.05), (41, 0.0)]
    assert by_name.state
    theirs: Any = create_optimizer_v2(directly.param_groups[0]["params"], "adamp", lr=1e-3)
    assert {(g["wd_ratio"], g["nesterov"]) for g in theirs.param_groups} == {(0.01, True)}


def test_timms_factory_makes_our_networks_once_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert example("timm_model").main() == (2, 10)
    assert "paribus_pit_ti" in capsys.readouterr().out


def test_a_training_step_as_lightning_calls_it_learns() -> None:
    losses = example("training_step").main()
    assert losses[-1] < 0.7 * losses[0]


def test_each_example_is_short() -> None:
    files = sorted(EXAMPLES.glob("*.py"))
    assert len(files) == 4
    assert all(len(path.read_text().splitlines()) <= 40 for path in files)
