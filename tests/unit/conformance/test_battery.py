"""The battery sees what it is there for: a technique broken in one way fails the check of that, and is told why."""

import random
from pathlib import Path

import pytest
import torch

import paribus.conformance
from helpers.own_configs import MODULE, forget_modules, written_lab
from paribus.cli.main import dispatch
from paribus.conformance import battery, draws
from paribus.conformance.battery import CHECKS, Check, CheckFailed, NotApplicable, run_battery
from paribus.conformance.card import find_card
from paribus.conformance.trainings import make_subject
from paribus.core.errors import ConfigError

SOUND = "return replace(batch, inputs=batch.inputs + self.share) if self.share else batch"
TO = "return replace(batch, inputs=batch.inputs"  # plus, times, ...
LABELS = "return replace(batch, targets=__import__('torch').eye(batch.classes)[batch.targets]"
UNIFORM = "__import__('paribus').core.streams.uniform"
BROKEN: list[tuple[Check, str, str]] = [
    (battery.check_learning, f"{TO} * 0)", "the loss went from"),
    (
        battery.check_learning,
        f"import random; {TO} + random.random())",
        "the same seed gave other bits, first .*streams",
    ),
    (
        battery.check_resume,
        f"self.__dict__.setdefault('n', []).append(1); {TO} + len(self.n))",
        "at step 17 and resumed",
    ),
    (battery.check_transforms, "batch.inputs.add_(self.share); return batch", r"transforms\.tint changed the batch"),
    (battery.check_transforms, "return replace(batch, targets=batch.inputs.new_ones(len(batch), 9))", r"sum to 1 \+8"),
    *(
        (
            draws.check_global_generators,
            f"import torch, random, numpy; {TO} + {drawn})",
            rf"tint {why}.*streams\.uniform",
        )
        for why, drawn in {
            "called twice with one batch gave other images": "torch.rand(())",
            "called twice .* other images": "torch.rand_like(batch.inputs)",
            "called twice": "random.random()",
            "called": "float(numpy.random.rand())",
        }.items()
    ),
    (
        draws.check_global_generators,
        f"import torch; {LABELS}.roll(int(torch.randint(5, ())), 1))",
        "gave other targets",
    ),
    *(
        (draws.check_division, f"import torch; return batch.apply(lambda p: replace(p, inputs=p.inputs {change}))", why)
        for change, why in {
            f"+ {UNIFORM}(at.seed, 't', at.epoch, torch.arange(len(p.ids)), 1)[:, :, None, None]": "gave .*images",
            f"+ {UNIFORM}(at.seed, 't', at.step, torch.zeros(1).long(), len(p))[0, :, None, None, None]": "draw by",
            "- p.inputs.mean()": "numbers about the whole batch",
            "+ p.inputs.roll(1, 0)": r"batch\.peers",
        }.items()
    ),
    (draws.check_division, f"{LABELS}.roll(len(batch) // 32, 1))", "tint gave other targets; draw by"),
    (draws.check_division, f"{TO} + 1)", r"next transform gets .* lacks transforms\.tint .*return batch\.apply"),
    (draws.check_division, "return replace(batch, inputs=batch.inputs + 1, fetch=None)", "has lost its fetch"),
    *(
        (
            draws.check_run_seed,
            f"from paribus.core.streams import stream; import torch; {TO} + {drawn})",
            "runs of other seeds",
        )
        for drawn in (
            f"{UNIFORM}(0, 't', at.epoch, batch.ids, 1)[:, :, None, None]",
            "torch.rand((), generator=stream(0, 't', at.step))",
        )
    ),
    (battery.check_soft_targets, f"{TO} / 0)", "the loss of soft targets is nan"),
    (battery.check_parameters, f"{TO} * 0)", "with a gradient of zero in three steps"),
    (battery.check_neutral, f"{TO} + 1)", "it is not the baseline bit for bit, first"),
    (battery.check_neutral, "return batch", "as it is, it changes nothing"),
]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in which a technique is written by written_lab."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    forget_modules(monkeypatch, "battery_lab")
    return tmp_path


@pytest.mark.parametrize(("check", "body", "told"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_technique_that_breaks_a_rule_fails_its_check(check: Check, body: str, told: str, lab: Path) -> None:
    configs = written_lab(lab, "battery_lab", MODULE.replace(SOUND, body))
    subject = make_subject(("tint",), (), configs)
    with pytest.raises(CheckFailed, match=told):
        check(subject, lab / "scratch")


DRAWS = (draws.check_global_generators, draws.check_division, draws.check_run_seed)


@pytest.mark.parametrize("check", DRAWS)
def test_sound_draws_pass(check: Check, lab: Path) -> None:
    drawn = f"{UNIFORM}(at.seed, 't', at.epoch, p.ids, 1)[:, :, None, None]"
    body = f"return batch.apply(lambda p: replace(p, inputs=p.inputs * {drawn}))"
    state = torch.get_rng_state(), random.getstate()
    assert check(make_subject(("tint",), (), written_lab(lab, "battery_lab", MODULE.replace(SOUND, body))), lab)
    assert torch.equal(state[0], torch.get_rng_state())
    assert state[1] == random.getstate()


def test_the_transform_of_the_page_for_users_is_sound(lab: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "extending.md").read_text()
    code = page[page.index('"""Blend') :].partition("```")[0].replace("class Blend", "class Tint")
    subject = make_subject(("tint",), (), written_lab(lab, "battery_lab", code))
    for check in (*DRAWS, battery.check_transforms):
        assert check(subject, lab)


@pytest.mark.parametrize("check", DRAWS)
@pytest.mark.parametrize("name", ["cutmix", "mixup", "cutout", "erasing"])
def test_draws_of_our_transforms(check: Check, name: str) -> None:
    assert name in check(make_subject((name,)), Path())


@pytest.mark.parametrize("check", DRAWS)
def test_draws_of_what_is_no_transform(check: Check) -> None:
    with pytest.raises(NotApplicable, match="there is no transform"):
        check(make_subject(("adamp",)), Path())


def test_a_transform_that_draws_nothing_has_no_seed_to_follow(lab: Path) -> None:
    with pytest.raises(NotApplicable, match="tint: asks for no random stream"):
        draws.check_run_seed(make_subject(("tint",), (), written_lab(lab, "battery_lab")), lab)


def test_a_batch_of_one_cannot_be_divided() -> None:
    with pytest.raises(NotApplicable, match="a batch of 33 cannot be divided"):
        draws.check_division(make_subject(("cutout",), ("batch_size=33",)), Path())


def test_another_class_than_the_config_names_is_seen() -> None:
    recipe = make_subject(()).recipe()
    with pytest.raises(CheckFailed, match=r"paribus\.other\.Class became paribus\.methods\.objectives\.CrossEntropy"):
        list(battery._compare_classes({"objective": {"_target_": "paribus.other.Class"}}, recipe))


def test_what_a_check_raises_is_a_failure_and_what_is_not_there_is_not_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def raises(error: Exception) -> Check:
        def check(subject: object, scratch: Path) -> str:
            assert scratch.is_dir()
            raise error

        return check

    errors = {
        "a": CheckFailed("why"),
        "b": ZeroDivisionError("nothing"),
        "c": ConfigError("bad"),
        "d": NotApplicable("no"),
    }
    checks = {name: raises(error) for name, error in errors.items()} | {"e": lambda subject, scratch: "fine"}
    monkeypatch.setattr(battery, "CHECKS", checks)
    found = {outcome.check: (outcome.state, outcome.found) for outcome in run_battery(make_subject(()))}
    assert found["a"] == ("failed", "why")
    assert found["b"][0] == found["c"][0] == "failed"
    assert "ZeroDivisionError: nothing" in found["b"][1]
    assert (found["d"], found["e"]) == (("not checked", "no"), ("ok", "fine"))


def test_nothing_to_check_is_told() -> None:
    with pytest.raises(NotApplicable, match=r"overlays\.pit\.check\.neutral names no settings"):
        battery.check_neutral(make_subject(("pit",)), Path())


def test_the_command_prints_card_and_table_and_exits_by_them(
    lab: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    written_lab(lab, "battery_lab")
    command = ["check", "technique", "tint", "--config-dir", "my configs"]
    few = dict(list(CHECKS.items())[:1])
    monkeypatch.setattr(battery, "CHECKS", few)
    assert dispatch(command) == 0
    out, err = capfd.readouterr()
    assert out.startswith(
        "Tint: all of an image is a little brighter.\n\non experiment=smoke optimizer=adamw\n\ncheck "
    )
    assert "what is built is what the config names  ok           16 objects" in out
    assert out.splitlines()[-1].startswith("tint: 1 ok in ")
    assert err == ""

    def fails(subject: object, scratch: Path) -> str:
        raise CheckFailed("two lines\nof text")

    monkeypatch.setattr(battery, "CHECKS", few | {"no": fails})
    assert dispatch([*command, "batch_size=16"]) == 1
    assert "failed       two lines; of text" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tnt"], "did you mean tint?); there are adamp, calm"),
        (["tnt"], "(paribus list techniques --config-dir 'my configs' says more)"),
        (["tint", "more"], "found more after tint; an override is KEY=VALUE"),
        (["tint", "technique=cutmix"], "found technique= beside tint"),
        (["tint", "experiment=nothing"], "experiment=nothing: there is no such experiment"),
        (["baseline"], "technique=baseline: there is no such technique"),
    ],
)
def test_bad_input_is_one_line(words: list[str], told: str, lab: Path, capfd: pytest.CaptureFixture[str]) -> None:
    written_lab(lab, "battery_lab")
    assert dispatch(["check", "technique", *words, "--config-dir", "my configs"]) == 2
    err = capfd.readouterr().err
    assert told in err
    assert err.count("\n") == 1


def test_the_card_is_the_text_at_the_top_of_the_module_or_of_the_class(lab: Path) -> None:
    assert find_card(make_subject(("adamp",))).startswith("AdamP and SGDP")
    assert find_card(make_subject(("cutmix",))).startswith("CutMix")
    bare = MODULE.partition("\n")[2].replace("class Tint:", 'class Tint:\n    """Brighter."""')
    assert find_card(make_subject(("tint",), (), written_lab(lab, "battery_lab", bare))) == "Brighter."


def test_the_battery_needs_no_pytest() -> None:
    for path in Path(paribus.conformance.__file__).parent.glob("*.py"):
        assert "pytest" not in path.read_text()
