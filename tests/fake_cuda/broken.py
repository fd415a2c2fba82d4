"""One line of the package broken on purpose, for as long as a `with` lasts: what shows that the tests see it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FunctionType


@contextmanager
def broken(function: FunctionType, old: str, new: str) -> Iterator[str]:
    """Inside, the function runs as if `old`, which its file has once, were `new`. Yields the place of the new line, as
    messages give it.

    Only the function's code is exchanged, so that classes, closures and whoever imported it stay the same.
    """
    file = Path(function.__code__.co_filename)
    text = file.read_text()
    assert text.count(old) == 1, f"{file} has {old!r} {text.count(old)} times"
    changed = text.replace(old, new)
    line = changed[: changed.index(new)].count("\n") + 1
    before = function.__code__
    function.__code__ = _find(compile(changed, str(file), "exec"), before)
    try:
        yield f"{file.name}:{line}"
    finally:
        function.__code__ = before


def _find(code: CodeType, wanted: CodeType) -> CodeType:
    """The code of the same name inside this one."""
    inside = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    for each in inside:
        if each.co_qualname == wanted.co_qualname:
            return each
        if wanted.co_qualname.startswith(f"{each.co_qualname}."):
            return _find(each, wanted)
    raise AssertionError(f"no {wanted.co_qualname} in {code.co_name}")
