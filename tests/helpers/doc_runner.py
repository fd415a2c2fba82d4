"""Runs the blocks of a page of documentation as a reader would: from its top, in one folder, each as it stands.

What is done otherwise, so that it takes seconds:

* `paribus` runs in this process. A line with pipes and the like is bash's, and finds a `paribus` of this checkout.
* A training on images that are files (CIFAR, ImageNet, a folder) is composed instead (`--cfg job`). One on digits, on
  made-up images or on a class of the page's own is trained, for two steps where it asks for more than MOST_STEPS;
  as it stands if the page shows what it prints.
* Cells of a study pretend to train (helpers/pretended_cells.py); `study run --repeat`, which would train all that is on
  record, is read by its parser alone.
* `paribus check technique` makes one check of its battery, which tests/conformance runs on every technique.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from helpers.doc_pages import SHELL, Block, Command, Page
from helpers.doc_usage import count_steps, expand, find_faults, first_of_sweep, reads_files
from helpers.pretended_cells import pretend
from paribus.cli.main import dispatch
from paribus.conformance.battery import CHECKS

ROOT = Path(__file__).parents[2]
MOST_STEPS = 60
# programs that do no harm; all others, an installation above all, are for a mark to leave out
_HARMLESS = ("python", "cat", "echo", "ls", "mkdir", "cp", "head", "tail", "grep", "awk", "sed", "true", "test", "git")
_OPERATORS = re.compile(r"[|><;&`]|\$\(")


class Run:
    """A page being run in a folder. faults: LINE: command: what was wrong, in the order of the page."""

    def __init__(self, page: Page, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.page, self.here, self.monkeypatch = page, here, monkeypatch
        self.faults: list[str] = []
        images = torch.zeros(4, 3, 32, 32)
        self.scope: dict[str, object] = {"__name__": "__main__", "inputs": images, "images": images.numpy()}
        self.trained = 0
        self.read_only = False

    def run(self, read_only: bool = False) -> None:
        """All blocks, then the commands in running text. read_only: nothing runs, parsers read all."""
        self.faults += [f"{self.page.name}:{fault}" for fault in self.page.faults]
        self.read_only = read_only
        self._prepare()
        try:
            for block in self.page.blocks:
                if block.kind in SHELL:
                    for command in block.commands():
                        self._note(command, self._faults_of(command))
                elif block.name:
                    (self.here / block.name).parent.mkdir(parents=True, exist_ok=True)
                    (self.here / block.name).write_text(block.text)
                elif block.kind == "python":
                    self._execute(block)
            for command in self.page.inline:
                self._note(command, find_faults(command.text, ROOT, self._composed, whole=False))
        finally:
            for name, module in list(sys.modules.items()):  # another page may have another `mine`
                if str(getattr(module, "__file__", None) or "").startswith(str(self.here)):
                    del sys.modules[name]

    def _prepare(self) -> None:
        patch = self.monkeypatch
        patch.chdir(self.here)
        patch.setenv("COLUMNS", "100")
        patch.delenv("PARIBUS_DATA", raising=False)
        tools = self.here / ".tools"
        tools.mkdir(exist_ok=True)
        for name, words in {"paribus": "-m paribus.cli ", "python": ""}.items():
            (tools / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words}"$@"\n')
            (tools / name).chmod(0o755)
        patch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
        patch.setattr("paribus.conformance.battery.CHECKS", dict([*CHECKS.items()][:1]))
        pretend(patch, {})
        patch.setattr("paribus.cli.study.run.compose", _plan)

    def _note(self, command: Command, faults: list[str]) -> None:
        self.faults += [f"{self.page.name}:{command.line}: {command.text}\n  {fault}" for fault in faults]

    def _execute(self, block: Block) -> None:
        try:
            with printed_to(self.here / ".printed"):
                code = compile("\n" * (block.line - 1) + block.text, self.page.name, "exec")
                if not block.reason():
                    exec(code, self.scope)
        except Exception as error:  # whatever it is, the page is wrong
            self.faults.append(f"{self.page.name}:{block.line}: {type(error).__name__}: {error}")

    def _faults_of(self, command: Command) -> list[str]:
        text = re.sub(r"(\b[A-Z]+)\.\.\.", r"\1", command.text)
        words = shlex.split(text)
        if command.reason or self.read_only or "--repeat" in words:
            return find_faults(text, ROOT, self._composed)
        if words[:1] == ["export"] or words[:1] == ["cd"]:
            self._shell_state(words)
            return []
        if words[0] == "paribus" and not _OPERATORS.search(re.sub(r"'[^']*'|\"[^\"]*\"", "", text)):
            words = [one for word in words[1:] for one in expand(word, self.here)]
            if words[0] == "train" and not {"--help", "-h", "--cfg"} & set(words):
                words = self._affordable(words, command)
            code, said = self._say(lambda: dispatch(words))
            self._link_last_run()
        elif words[0] in (*_HARMLESS, "paribus"):
            code, said = self._say(lambda: subprocess.run(["bash", "-ec", text], check=False).returncode)
        else:
            return [f"{words[0]} is not run by tests; mark the block: <!-- not run: REASON -->"]
        return _judge(command, code, said)

    def _affordable(self, words: list[str], command: Command) -> list[str]:
        """A training that takes seconds; see the top of the module."""
        several = bool({"-m", "--multirun"} & set(words))
        one = [first_of_sweep(word) if several else word for word in words if word not in ("-m", "--multirun")]
        code, config = self._composed(one[1:])
        if code or reads_files(config):
            return [*one, "--cfg", "job"]
        self.trained += 1
        if command.shown is not None or count_steps(config) <= MOST_STEPS:
            return words
        return [*words, f"steps={1 + self.trained}ba"]

    def _composed(self, words: list[str]) -> tuple[int, str]:  # type: ignore[override]
        return self._say(lambda: dispatch(["train", *words, "--cfg", "job"]))

    def _say(self, call: Callable[[], int]) -> tuple[int, str]:
        where = self.here / ".printed"
        with printed_to(where):
            code = call()
        return code, where.read_text(errors="replace")

    def _link_last_run(self) -> None:
        """runs/NAME-HASH is the run that the page trained last."""
        link = self.here / "runs" / "NAME-HASH"
        done = [path.parent for path in self.here.glob("runs/*/DONE") if not path.parent.is_symlink()]
        if done:
            link.unlink(missing_ok=True)
            link.symlink_to(max(done, key=lambda folder: (folder / "DONE").stat().st_mtime_ns).name)

    def _shell_state(self, words: list[str]) -> None:
        if words[0] == "cd":
            self.monkeypatch.chdir(words[1])
        for word in words[1:] if words[0] == "export" else []:
            self.monkeypatch.setenv(*word.split("=", 1))


def _plan(args: object, options: tuple[str, ...] = ()) -> int:
    """`study run` plans in a process of its own to stay small; here that would cost an import of torch."""
    configs = ["--config-dir", str(args.config_dir)] if args.config_dir else []  # type: ignore[attr-defined]
    return dispatch(["study", "plan", str(args.study), *configs, *options, "--quiet"])  # type: ignore[attr-defined]


def _judge(command: Command, code: int, said: str) -> list[str]:
    tail = "\n  ".join(said.strip().splitlines()[-8:])
    if code != command.code:
        return [f"exit code {code}, not {command.code}: {tail}"]
    if "Traceback" in said:
        return [f"a traceback: {tail}"]
    if command.shown is not None and not matches(command.shown, said):
        return [f"it does not print what the page shows, but:\n{said}"]
    return []


def matches(shown: str, said: str) -> bool:
    """Whether what was printed is what the page shows, in which … stands for anything within a line, and as a line of
    its own for any lines. Blanks at ends of lines, blank lines at the end, and whether a blank breaks
    do not count."""
    shown, said = (text.replace("\xa0", " ") for text in (shown, said))
    pattern = ""
    for line in shown.rstrip().splitlines():
        anything = line.strip() in ("…", "...")
        pattern += r"(?:[^\n]*\n)*?" if anything else re.escape(line.rstrip()).replace("…", r"[^\n]*") + r"[ ]*\n"
    return re.fullmatch(pattern, said.rstrip() + "\n" if said.strip() else "") is not None


@contextmanager
def printed_to(path: Path) -> Iterator[None]:
    """Meanwhile standard output and error of this process, and of those it starts, go to a file, as on one terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {number: os.dup(number) for number in (1, 2)}
    streams = sys.stdout, sys.stderr
    with open(path, "w+", buffering=1, encoding="utf-8") as file:
        for number in kept:
            os.dup2(file.fileno(), number)
        sys.stdout = sys.stderr = file
        try:
            yield
        finally:
            file.flush()
            sys.stdout, sys.stderr = streams
            for number, old in kept.items():
                os.dup2(old, number)
                os.close(old)
