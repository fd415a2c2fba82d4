"""A package and a folder of configs as a user has them, for tests: a technique, a model and an experiment."""

import sys
from pathlib import Path

import pytest

OVERLAY = """# @package _global_
# Tints images.
transforms: {{tint: {{_target_: {module}.Tint, share: 0.25}}}}
overlays:
  tint:
    packages: [{module}]
    expect: {{transforms.tint._target_: {module}.Tint}}
    check: {{neutral: {{transforms.tint.share: 0.0}}}}
"""
MODULE = '''"""Tint: all of an image is a little brighter."""
from dataclasses import replace
from paribus.core.build import schema

@schema
class Tint:
    share: float = 0.5

    def __call__(self, batch, at):
        return replace(batch, inputs=batch.inputs + self.share) if self.share else batch
'''


def written_lab(folder: Path, module: str, code: str = MODULE, configs: str = "my configs") -> Path:
    """`module`.py and the folder of configs; returns the latter. Each test needs a module of its own, since a process
    imports one once."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(code)
    files = {
        "technique/tint": OVERLAY.format(module=module),
        "model/flat": "# A flat network.\n_target_: paribus.models.convnet.ConvNet\n",
        "experiment/own": "# @package _global_\n# Ours.\ndefaults: [smoke]\nname: own\n",
    }
    for name, text in files.items():
        path = folder / configs / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / configs


def forget_modules(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let packages of these names be imported anew, and forgotten again after the test."""
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)  # so that the test's end removes whatever is there
        del sys.modules[name]
