"""Pages of documentation as their reader sees them: blocks of code with their marks, and commands in running text.

A mark stands before a block, as an HTML comment, which no reader of the page sees:

    <!-- not run: needs a GPU -->                               nothing of the block is run
    <!-- not run where --download: needs a download -->         nor are its lines with that text
    <!-- not run: tests/e2e/test_two_commands.py runs it -->    another test does

The reason is one of REASONS. What is not run is still read by the command's own parser.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

REASONS = {
    "needs a GPU": "or several",
    "needs a download": "of data, weights or packages",
    "needs data": "a data set that is too large to make up here",
    "needs a Slurm cluster": "or several machines",
    "needs a login": "to Weights & Biases or another service",
    "takes minutes": "or ten seconds and more: training, timing",
    "changes the machine": "installs something, or sets up a shell",
    "is a part of a program": "code with names that the reader has; not for commands",
}
SHELL = ("bash", "sh", "console", "shell")
_FENCE = re.compile(r"^( *)(`{3,}|~{3,})\s*(\w*)\s*(.*?)\s*$")
_MARK = re.compile(r"<!--\s*not run\b(?: where (.+?))?: (.*?)\s*-->")
_BY_TEST = re.compile(r"(tests/\S+\.py) runs it")
_INLINE = re.compile(r"(?<!`)`((?:paribus|python -m|python [\w/]+\.py|pytest|bash|sh|torchrun|srun)\s[^`]+)`(?!`)")
_LOOKS_LIKE_COMMAND = re.compile(r"\s*(?:\$ )?(?:paribus [a-z]|python -m |pip install |pytest |bash scripts/)")


class Mark(NamedTuple):
    where: str  # a text of the lines it is about; "": of all
    reason: str


class Command(NamedTuple):
    """line: on its page. text: as it stands, without comment and prompt, on one line. comment: what was taken off.
    shown: what is printed, as the page has it; None where it does not say. code: the exit code that the page states."""

    line: int
    text: str
    comment: str = ""
    shown: str | None = None
    code: int = 0
    reason: str = ""  # why it is not run


@dataclass(frozen=True)
class Block:
    """line: of its first line of code. kind, title: the words after the fence. name: of the file that the text before
    it names, or its title does."""

    line: int
    kind: str
    text: str
    title: str = ""
    name: str = ""
    marks: tuple[Mark, ...] = ()

    def commands(self) -> list[Command]:
        found = [*(_in_console(self) if self.kind == "console" or self.text.startswith("$ ") else _in_script(self))]
        return [
            one._replace(reason=mark.reason) if (mark := self._mark_of(one.text)) is not None else one for one in found
        ]

    def reason(self) -> str:
        """Why the block as a whole is not run; "" if it is."""
        return next((mark.reason for mark in self.marks if not mark.where), "")

    def _mark_of(self, text: str) -> Mark | None:
        return next((mark for mark in self.marks if mark.where in text), None)


@dataclass(frozen=True)
class Page:
    name: str
    blocks: tuple[Block, ...]
    inline: tuple[Command, ...]  # commands in running text and tables
    faults: tuple[str, ...]  # LINE: what is wrong with the page itself

    def commands(self) -> list[Command]:
        return [one for block in self.blocks if block.kind in SHELL for one in block.commands()]


def read_page(path: Path, root: Path) -> Page:
    return parse_page(str(path.relative_to(root)), path.read_text(), root)


def parse_page(name: str, text: str, root: Path) -> Page:
    """root: where the tests lie that marks name."""
    lines = text.splitlines()
    blocks, prose, faults, waiting = [], [], [], []
    number = 0
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if fence is None:
            line = lines[number]
            found = [Mark(one[1] or "", one[2])] if (one := _MARK.fullmatch(line.strip())) else []
            if line.strip() and not found and waiting:
                faults.append(f"{number + 1}: a mark is not followed by a block")
                waiting = []
            waiting += found
            prose.append(line)
            number += 1
            continue
        indent, mark, kind, title = fence.groups()
        end = next(
            (k for k in range(number + 1, len(lines)) if re.fullmatch(rf" *{mark}{mark[0]}*\s*", lines[k])), len(lines)
        )
        code = "\n".join(line.removeprefix(indent) for line in lines[number + 1 : end]) + "\n"
        file = title if re.fullmatch(r"[\w./-]+\.\w+", title) else _named_before(lines[:number])
        blocks.append(Block(number + 2, kind, code, title, file, tuple(waiting)))
        waiting = []
        prose += [""] * (end - number + 1)
        number = end + 1
    faults += [fault for block in blocks for fault in _faults_of(block, root)]
    faults += [
        f"{k + 1}: a command that is only indented; put it into a block that begins with ```bash"
        for k, line in enumerate(prose)
        if re.match(r"(?: {4}|\t)", line) and _LOOKS_LIKE_COMMAND.match(line)
    ]
    return Page(name, tuple(blocks), tuple(_inline(prose)), tuple(faults))


def _named_before(lines: Sequence[str]) -> str:
    """The file that the line before a block ends with: `configs/model/mlp.yaml`:"""
    last = next((line for line in reversed(lines) if line.strip()), "")
    named = re.search(r"`([\w./-]+\.\w+)`:\s*$", last)
    return named[1] if named else ""


def _faults_of(block: Block, root: Path) -> Iterator[str]:
    shows_commands = any(_LOOKS_LIKE_COMMAND.match(line) for line in block.text.splitlines())
    if shows_commands and block.kind in ("", "text") and not block.name:
        yield f"{block.line}: a block with commands that does not say bash or console"
    if block.kind == "console" and not block.text.startswith("$ "):
        yield f"{block.line}: a block of kind console begins with a command: $ paribus ..."
    for where, reason in block.marks:
        by_test = _BY_TEST.fullmatch(reason)
        if by_test and not (root / by_test[1]).is_file():
            yield f"{block.line}: not run: {by_test[1]} is not there"
        if not by_test and reason not in REASONS:
            yield f"{block.line}: not run: found {reason!r}; should be one of {', '.join(REASONS)}, or FILE runs it"
        if where not in block.text:
            yield f"{block.line}: not run where {where}: no line of the block has that"


def _in_script(block: Block) -> Iterator[Command]:
    lines = block.text.splitlines()
    number = 0
    while number < len(lines):
        first, (text, comment) = number, _without_comment(lines[number])
        while text.endswith("\\") and number + 1 < len(lines):
            number += 1
            more, comment = _without_comment(lines[number])
            text = f"{text[:-1].rstrip()} {more.strip()}"
        number += 1
        if text.strip():
            code = re.search(r"\bexit code (\d+)", comment)
            yield Command(block.line + first, text.strip(), comment, code=int(code[1]) if code else 0)


def _in_console(block: Block) -> Iterator[Command]:
    """Lines that begin with `$ ` and what they print; `$ echo $?` shows the exit code of the one before."""
    command: Command | None = None
    for number, line in enumerate(block.text.splitlines()):
        if not line.startswith("$ "):
            if command is not None:
                command = command._replace(shown=(command.shown or "") + line + "\n")
            continue
        text, comment = _without_comment(line[2:])
        if text.strip() == "echo $?" and command is not None:
            at = block.text.splitlines()[number + 1 :]
            yield command._replace(code=int(at[0]))
            command = Command(0, "")  # takes the line with the code
            continue
        if command is not None and command.text:
            yield command
        command = Command(block.line + number, text.strip(), comment)
    if command is not None and command.text:
        yield command


def _without_comment(line: str) -> tuple[str, str]:
    """A comment begins with # between blanks."""
    found = re.search(r"(?:^|\s)#(?=\s|$)", line)
    return (line[: found.start()].rstrip(), line[found.end() :].strip()) if found else (line.rstrip(), "")


def _inline(prose: Sequence[str]) -> Iterator[Command]:
    """Commands between backticks, which may go over the end of a line."""
    text = "\n".join(prose)
    for found in _INLINE.finditer(text):
        if "\n\n" not in found[1]:
            number = text.count("\n", 0, found.start()) + 1
            yield Command(number, " ".join(found[1].replace("\\|", "|").split()))
