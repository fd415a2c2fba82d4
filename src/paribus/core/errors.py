"""The two ways a run can go wrong: the user's input (exit 2) and the training itself (exit 1).

Messages are one line: where, what was found, what to do. The command line prints them without a traceback.
`explain_exception` makes such a line of any exception of torch, of a library or of a user's own class.
"""

import importlib
import os
import re
import traceback
from pathlib import Path

_LIMIT = 600  # characters of a foreign message; what comes after is counted, not shown
_MISFIT = re.compile(r"Error\(s\) in loading state_dict for (\w+):\s*")
_FEW = 3  # names of weights of each kind; the rest is counted


class ConfigError(ValueError):
    """The input is wrong: a config, a data set, a folder. Nothing has been started or changed."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class RunFailed(RuntimeError):
    """Training went wrong after it had started, e.g. the loss is no longer finite."""


def explain_exception(error: BaseException) -> str:
    """Any exception as one line with all that it says: every line of it, the file of an OSError, file and
    line where a user's own code raised it, the names and shapes of weights that do not fit.

    >>> explain_exception(FileNotFoundError(2, "No such file or directory", "weights.pt"))
    'weights.pt: No such file or directory'
    >>> explain_exception(RuntimeError("cannot be made:\\n  the reason"))
    'RuntimeError: cannot be made: the reason'
    """
    if isinstance(error, ConfigError | RunFailed):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    kind = type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:
        return f"{kind}: {error.msg} ({error.filename}, line {error.lineno})"
    if (head := _MISFIT.match(str(error))) is not None:
        return f"the weights do not fit {head[1]}: {explain_misfit(error)}"
    message = to_one_line(str(error))
    if isinstance(error, KeyError) and isinstance(text := next(iter(error.args), None), str) and "\n" in text:
        message = to_one_line(text)  # str() would show its line breaks as \n
    asks = isinstance(error, ImportError) or not message  # which line asked for it
    if (asks or _is_of_user(error)) and (place := _find_place(error)):
        message = f"{message} ({place})" if message else f"at {place}"
    return f"{kind}: {message}" if message else kind


def explain_misfit(error: BaseException) -> str:
    """What an error of load_state_dict says of weights that do not fit: how many of each kind, and a few of them.

    >>> explain_misfit(RuntimeError('''Error(s) in loading state_dict for Net:
    ...     Missing key(s) in state_dict: "a.weight", "b".
    ...     size mismatch for c: copying a param with shape torch.Size([10, 64]) from checkpoint, the shape in current
    ...     model is torch.Size([100, 64]).'''))
    '2 missing: a.weight, b; 1 of another shape: c (10, 64) in the file, (100, 64) in the network'
    """
    head = _MISFIT.match(str(error))
    if head is None:
        return explain_exception(error)
    text = " ".join(str(error)[head.end() :].split())
    parts: list[str] = []
    for label, title in (("missing", "Missing"), ("not in the network", "Unexpected")):
        for found in re.finditer(rf'{title} key\(s\) in state_dict: ((?:"[^"]*"(?:, )?)+)', text):
            parts.append(count_and_list(re.findall(r'"([^"]*)"', found[1]), label))
    shape = r"torch\.Size\(\[([\d, ]*)\]\)"
    shapes = re.findall(
        rf"size mismatch for (\S+): copying a param with shape {shape} from checkpoint, the shape in current model is "
        rf"{shape}",
        text,
    )
    if shapes:
        pairs = [f"{name} {_as_tuple(old)} in the file, {_as_tuple(new)} in the network" for name, old, new in shapes]
        parts.append(count_and_list(pairs, "of another shape"))
    return "; ".join(parts) or to_one_line(text)


def to_one_line(text: str) -> str:
    """All lines of a text as one. Only what is longer than anybody reads is cut, and then it says so.

    >>> to_one_line("what:\\n  why\\n\\n  and how")
    'what: why; and how'
    """
    joined = ""
    for line in text.splitlines():
        if line := " ".join(line.split()):
            joined += f"{'' if not joined else ' ' if joined[-1] in ':;,.' else '; '}{line}"
    return joined if len(joined) <= _LIMIT else f"{joined[:_LIMIT]}... ({len(joined) - _LIMIT} more characters)"


def count_and_list(items: list[str], label: str) -> str:
    """How many, and the first few of them.

    >>> count_and_list(["a", "b", "c", "d"], "missing")
    '4 missing: a, b, c and 1 more'
    """
    more = f" and {len(items) - _FEW} more" if len(items) > _FEW else ""
    return f"{len(items)} {label}: {', '.join(items[:_FEW])}{more}"


def _as_tuple(text: str) -> str:
    """As Python writes a tuple: "(5,)", "(10, 64)"."""
    return str(tuple(int(n) for n in text.split(",") if n.strip()))


def _is_of_user(error: BaseException) -> bool:
    """Whether it was raised by code that is neither paribus's nor installed."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return False
    file = Path(frames[-1].filename)
    installed = {"site-packages", "dist-packages"} & set(file.parts) or file.is_relative_to(Path(os.__file__).parent)
    return file.is_absolute() and not installed and not file.is_relative_to(Path(__file__).parents[1])


def _find_place(error: BaseException) -> str:
    """The line of code that raised it; "" if Python's import machinery did, for a name that we gave it."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    if not frames or frames[-1].filename == importlib.__file__:
        return ""
    return f"{frames[-1].filename}, line {frames[-1].lineno}"
