"""One line of any exception, which keeps what matters: names, shapes, files, lines of code."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from paribus.core.build import build
from paribus.core.errors import ConfigError, RunFailed, explain_exception, explain_misfit, to_one_line


def refusal(weights: dict[str, Tensor]) -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5)).load_state_dict(weights)
    return caught.value


def test_weights_that_do_not_fit_have_names_shapes_and_a_count() -> None:
    fits = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5)).state_dict()
    other = {**fits, "1.weight": torch.zeros(7, 4), "1.bias": torch.zeros(7), "0.bias": torch.zeros(())}
    assert explain_misfit(refusal(other)) == (
        "3 of another shape: 0.bias () in the file, (4,) in the network, 1.weight (7, 4) in the file, (5, 4) in the "
        "network, 1.bias (7,) in the file, (5,) in the network"
    )
    other = {f"module.{name}": value for name, value in fits.items()}
    assert explain_exception(refusal(other)) == (
        "the weights do not fit Sequential: 4 missing: 0.weight, 0.bias, 1.weight and 1 more; 4 not in the network: "
        "module.0.weight, module.0.bias, module.1.weight and 1 more"
    )
    assert "received <class 'int'>" in explain_misfit(refusal({**fits, "0.bias": 3}))  # type: ignore[dict-item]
    assert explain_misfit(KeyError("model")) == "KeyError: 'model'"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FileNotFoundError(2, "No such file or directory", "w.pt"), "w.pt: No such file or directory"),
        (OSError("the hub\ndoes not answer"), "OSError: the hub; does not answer"),
        (
            RuntimeError("cannot be made:\n\n   the\treason\nand where."),
            "RuntimeError: cannot be made: the reason; and where.",
        ),
        (ConfigError("model: too deep"), "model: too deep"),
        (RunFailed("the loss is not finite"), "the loss is not finite"),
        (ValueError(""), "ValueError"),
    ],
)
def test_every_line_of_an_exception_is_kept(error: Exception, line: str) -> None:
    assert explain_exception(error) == line


def test_a_text_is_cut_only_with_a_count() -> None:
    assert to_one_line("word " * 120) == ("word " * 120).strip()
    assert to_one_line("x" * 700) == "x" * 600 + "... (100 more characters)"


def test_an_exception_without_a_word_says_where() -> None:
    with pytest.raises(StopIteration) as caught:
        next(iter([]))
    assert explain_exception(caught.value).startswith(f"StopIteration: at {__file__}, line ")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("x = 1\ndef f()\n    pass\n", "SyntaxError: expected ':' ({}, line 2)"),
        ("import no_such_module_of_ours\n", "No module named 'no_such_module_of_ours' ({}, line 1)"),
        ("\nfrom math import sinus\n", "cannot import name 'sinus' from 'math'"),
        ("open('/nowhere/weights.pt')\n", "/nowhere/weights.pt: No such file or directory"),
        ("raise RuntimeError('first\\nsecond')\n", "RuntimeError: first; second"),
        ("class Nett: ...\n", "has no Net (did you mean Nett?)"),
    ],
)
def test_a_module_of_the_users_that_cannot_be_imported(
    code: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"lab{abs(hash(code))}"
    path = tmp_path / f"{name}.py"
    path.write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        build({"_target_": f"{name}.Net"}, "model", (name,))
    assert str(caught.value).startswith(f"model._target_: {name}.Net cannot be imported: ")
    assert told.format(path) in str(caught.value)
