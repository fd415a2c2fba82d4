"""`paribus data …`, called in this process."""

import pytest

from paribus.cli.main import dispatch


def said(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, output and error of `paribus data …`; an error is one line."""
    capsys.readouterr()
    code = dispatch(["data", *map(str, words)])
    out, err = capsys.readouterr()
    assert err.count("\n") == (0 if code == 0 else 1), err
    return code, out, err
