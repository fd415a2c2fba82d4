"""What is recorded beside a result."""

import importlib.metadata

import pytest

import paribus
from paribus.engine.provenance import package_version


def test_the_version_on_record_is_that_of_the_code_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """An editable installation keeps the version that it was installed with."""
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "0.0.1")
    assert package_version("paribus") == paribus.__version__ != "0.0.1"
    assert package_version("torch") == "0.0.1"  # negative control: of others, what is installed
