"""Numbers as they are typed: what a bare one means where, the unit pt, and that what has two readings is refused."""

from typing import Any

import pytest

from paribus.core.errors import ConfigError
from paribus.study.units import choose_direction, infer_direction, is_accuracy, read_difference, read_margin, read_value

POINTS = ["0.5pt", "0.5 pt", "0.5pts", "0.5%", "0.5 points", ".5pt", "0.5 pp", "5e-1pt", "+0.5pt"]


@pytest.mark.parametrize("text", POINTS)
def test_half_a_point_is_the_same_wherever_it_stands(text: str) -> None:
    assert read_difference(text, "val/acc1", "smallest_effect") == 0.005
    assert read_margin(text, "val/acc1", "--margin") == 0.005
    assert read_value(text, "val/acc1", "targets.0") == 0.005


def test_points_are_the_fraction_to_the_last_bit() -> None:
    """0.7 / 100 is not 0.007 in floating point, and 0.7pt should be the same margin as 0.007."""
    for tenths in range(1, 1000):
        assert read_difference(f"{tenths / 10}pt", "val/acc1", "x") == float(f"{tenths}e-3")


def test_a_bare_number_is_a_fraction_in_a_file_and_points_on_the_command_line() -> None:
    assert read_difference(0.01, "val/acc1", "smallest_effect") == 0.01
    assert read_difference("1e-2", "val/acc1", "smallest_effect") == 0.01
    assert read_value(0.9, "val/acc1", "targets.0") == 0.9
    assert read_value("9e-1", "val/acc1", "targets.0") == 0.9
    assert read_value("90pt", "val/acc1", "targets.0") == 0.9
    assert read_margin("0.5", "val/acc1", "--margin") == 0.005
    assert read_margin("5e-1", "val/acc1", "--margin") == 0.005
    assert read_margin("0", "val/acc1", "--margin") == 0.0
    assert read_difference("50pt", "val/acc1", "smallest_effect") == 0.5, "who means fifty points can say so"


@pytest.mark.parametrize("metric", ["val/loss", "train/unmixed_loss", "val/accordion"])
@pytest.mark.parametrize("read", [read_difference, read_margin, read_value])
def test_other_metrics_take_any_number_and_no_points(read: Any, metric: str) -> None:
    for text, value in (("0.5", 0.5), ("0.005", 0.005), ("1e-2", 0.01), ("1E+2", 100.0), ("3.", 3.0)):
        assert read(text, metric, "x") == value
    for text in ("0.5pt", "1%"):
        with pytest.raises(ConfigError, match=rf"x: found '{text}'; {metric} is not an accuracy"):
            read(text, metric, "x")


@pytest.mark.parametrize("metric", ["val/acc1", "val/acc5", "val/acc", "minival/accuracy", "real/v2/acc1"])
@pytest.mark.parametrize(("found", "readings"), [
    (0.5, r"0.5 points \(0.5pt\) or 50 points \(50pt\)"),
    (0.05, r"0.05 points \(0.05pt\) or 5 points \(5pt\)"),
    (1, r"1 point \(1pt\) or 100 points"),
    ("5e-1", r"0.5 points \(0.5pt\) or 50 points"),
    (-2.2, r"-2.2 points \(-2.2pt\) or -220 points"),
])  # fmt: skip
def test_a_large_difference_of_an_accuracy_is_refused_with_both_readings(
    metric: str, found: Any, readings: str
) -> None:
    assert is_accuracy(metric)
    with pytest.raises(ConfigError, match=rf"^smallest_effect: found {found} on {metric}; is it {readings}"):
        read_difference(found, metric, "smallest_effect")


def test_just_below_that_nothing_is_asked() -> None:
    assert read_difference(0.0499, "val/acc1", "x") == 0.0499


@pytest.mark.parametrize("text", ["0.005", "5e-3", "0.049"])
def test_a_small_margin_of_an_accuracy_is_refused_with_both_readings(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"--margin: found {text} on val/acc1; is it .*pt\) or .*pt\)"):
        read_margin(text, "val/acc1", "--margin")


def test_no_accuracy_is_above_one() -> None:
    assert read_value(1, "val/acc1", "targets.0") == 1
    with pytest.raises(ConfigError, match=r"targets.0: found 90; val/acc1 is a fraction.*write 90pt or 0.9"):
        read_value(90, "val/acc1", "targets.0")
    with pytest.raises(ConfigError, match="at most 100pt"):
        read_value("101pt", "val/acc1", "targets.0")
    assert read_value(90, "val/loss", "targets.0") == 90


@pytest.mark.parametrize(
    "found", ["abc", "", "1e", "e-2", "0x1", "1_0", "1e-2 2", "pt", "nan", "inf", "1e999", True, None, [0.5], {}, 1e999]
)
@pytest.mark.parametrize("read", [read_difference, read_value])
@pytest.mark.parametrize("metric", ["val/acc1", "val/loss"])
def test_what_is_no_number_is_one_line(read: Any, found: Any, metric: str) -> None:
    with pytest.raises(ConfigError, match=r"^x: found .*; should be a (finite )?number") as refused:
        read(found, metric, "x")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["-1", "a lot", "", "nan", "-0.5pt", "1e999"])
def test_margins_are_numbers_from_0(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--margin: found"):
        read_margin(text, "val/acc1", "--margin")


@pytest.mark.parametrize(
    ("metric", "up"),
    [
        ("val/acc1", True),
        ("val/attack_acc_pgd10_linf_4", True),
        ("val/acc1_without_ema", True),
        ("val/loss", False),
        ("train/unmixed_loss", False),
        ("val/loss_without_ema", False),
        ("val/lossless", None),
        ("val/ece", None),
        ("val/deo_max", None),
        ("val/fid", None),
        ("val/r_precision", None),
    ],
)
def test_which_way_is_better_is_inferred_of_accuracies_and_losses_alone(metric: str, up: bool | None) -> None:
    assert infer_direction(metric) is up
    assert choose_direction(metric, lower=True, higher=False) is False
    assert choose_direction(metric, lower=False, higher=True) is True
    with pytest.raises(ConfigError, match="found both"):
        choose_direction(metric, lower=True, higher=True)
    if up is None:
        with pytest.raises(ConfigError, match=f"--metric: found {metric}; it is no accuracy and no loss"):
            choose_direction(metric, lower=False, higher=False)
    else:
        assert choose_direction(metric, lower=False, higher=False) is up
