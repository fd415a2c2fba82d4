"""A program that uses paribus as a library passes pyright in strict mode, and a mistake in one is reported.

paribus ships `py.typed`, so type checkers believe its annotations as they are.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import paribus

ROOT = Path(__file__).parents[2]
USER = """\
from dataclasses import replace
from typing import Annotated

import paribus
import torch
from matplotlib.figure import Figure
from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.progress import Progress
from paribus.core.streams import uniform
from pydantic import Field
from torch import Tensor, nn

run = paribus.train(["experiment=smoke", "technique=cutmix", "seed=1"], quiet=True)
state: str = run.state
accuracy: float = run.metrics["val/acc1"]
steps, values = run.history("train/loss")
last: float = values[-1] + steps[-1]
trained: nn.Module = run.load()
paribus.runs("runs").frame()
for each in paribus.runs("runs"):
    print(each.path.name, each.config["optimizer"], each.rows().columns)

study = paribus.study("experiments/quickstart").run(workers=2)
print(study.rows().columns, [verdict["said"] for verdict in study.verdicts()])
figure: Figure = study.plot()

model = paribus.rexnet(width=0.5, num_classes=10, strides=32)
optimizer = paribus.AdamP(model.parameters(), lr=1e-3, weight_decay=0.01)
inputs, targets = paribus.cutmix(torch.rand(8, 3, 32, 32), torch.randint(10, (8,)), num_classes=10, alpha=1.0)
loss: Tensor = nn.functional.cross_entropy(model(inputs), targets)
optimizer.step()
exported: nn.Module = paribus.load("model.safetensors")


@schema
class Contrast:
    strength: Annotated[float, Field(ge=0, le=1)] = 0.3

    def __call__(self, batch: Batch, at: Progress) -> Batch:
        return batch.apply(lambda part: self.change(part, at))

    def change(self, part: Batch, at: Progress) -> Batch:
        drawn = uniform(at.seed, "mine", at.epoch, part.ids, 1)[:, :, None, None]
        return replace(part, inputs=part.inputs * (1 + self.strength * drawn))


strength: float = Contrast(strength=0.1).strength
"""
WRONG = """\
import paribus
import torch
from paribus.core.build import schema


@schema
class Mine:
    strength: float = 0.3


run = paribus.train(1)  # wrong
run = paribus.train(["experiment=smoke"], quite=True)  # wrong
print(run.metrics["val/acc1"].upper())  # wrong
print(run.acc1)  # wrong
paribus.AdamP([torch.nn.Parameter(torch.zeros(2))], rate=0.1)  # wrong
paribus.cutmix(torch.rand(8, 3, 32, 32), num_classes=10)  # wrong
paribus.study("experiments/quickstart").verdict()  # wrong
paribus.rexnet("wide")  # wrong
paribus.cutmicks  # wrong
Mine(strength="much")  # wrong
Mine().strength = 1.0  # wrong: frozen
"""


@pytest.fixture(scope="module")
def diagnostics(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What pyright says of the three programs: used well, used wrongly, and the type of every public name."""
    folder = tmp_path_factory.mktemp("user")
    names = "".join(f"reveal_type(paribus.{name})\n" for name in paribus.__all__)
    for name, text in {"user.py": USER, "wrong.py": WRONG, "names.py": f"import paribus\n{names}"}.items():
        (folder / name).write_text(text)
    (folder / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    done = subprocess.run(
        ["pyright", "--pythonpath", sys.executable, "--outputjson", "--project", str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    return json.loads(done.stdout)["generalDiagnostics"]


def select(diagnostics: list[dict[str, Any]], name: str, severity: str) -> dict[int, str]:
    """line -> message."""
    chosen = (d for d in diagnostics if Path(d["file"]).name == name and d["severity"] == severity)
    return {d["range"]["start"]["line"] + 1: d["message"] for d in chosen}


def test_a_users_program_is_clean_in_strict_mode(diagnostics: list[dict[str, Any]]) -> None:
    assert select(diagnostics, "user.py", "error") == {}


def test_negative_control_every_wrong_use_is_reported_and_nothing_else(diagnostics: list[dict[str, Any]]) -> None:
    wrong = {number for number, line in enumerate(WRONG.splitlines(), start=1) if "# wrong" in line}
    assert set(select(diagnostics, "wrong.py", "error")) == wrong


def test_no_public_name_is_of_unknown_type(diagnostics: list[dict[str, Any]]) -> None:
    told = select(diagnostics, "names.py", "information")
    assert len(told) == len(paribus.__all__)
    assert [text for text in told.values() if "Unknown" in text] == []
