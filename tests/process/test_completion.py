"""The Tab key in real shells."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.run_folders import to_complete

RUNS = ["runs/smoke-cutmix-s0-0a", "runs/smoke-cutmix-s1-0b"]


@pytest.fixture(autouse=True)
def _a_folder_with_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    to_complete(tmp_path)


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `paribus` of this checkout first on the PATH."""
    folder = tmp_path / ".bin"
    folder.mkdir()
    script = folder / "paribus"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m paribus.cli "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{Path(sys.executable).parent}:/usr/bin:/bin")
    return folder


def shell(name: str, text: str) -> list[str]:
    if shutil.which(name) is None:
        pytest.skip(f"no {name} here")
    flags = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[name]
    done = subprocess.run([name, *flags, "-c", text], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.stdout.splitlines()


# what bash hands back to the command line: from the last "=" on, where "=" ends a word
IN_BASH = {
    "paribus ex": ["export"],
    "paribus train experiment=smoke_m": ["smoke_mobile"],
    "paribus train technique=[cutmix,sg": ["[cutmix,sgdp"],
    "paribus train 'technique=[cutmix,sg": ["technique=[cutmix,sgdp"],
    "paribus train experiment=smoke techn": ["technique="],
    "paribus eval ": RUNS,
    "paribus export runs/smoke-cutmix-s1": ["runs/smoke-cutmix-s1-0b"],
}


@pytest.mark.usefixtures("on_path")
@pytest.mark.parametrize("line", IN_BASH)
def test_in_bash(line: str) -> None:
    assert shell("bash", _in_bash(line)) == IN_BASH[line]


def _in_bash(line: str, before: str = "") -> str:
    return (
        f'{before}; eval "$(paribus completion bash)"; complete -p paribus >/dev/null || exit 1;'
        f'COMP_LINE="{line}"; COMP_POINT=${{#COMP_LINE}}; _paribus paribus; printf "%s\\n" "${{COMPREPLY[@]}}"'
    ).removeprefix("; ")


@pytest.mark.usefixtures("on_path")
def test_in_bash_where_words_do_not_end_at_the_equals_sign() -> None:
    told = shell("bash", _in_bash("paribus train experiment=smoke_m", 'COMP_WORDBREAKS=" "'))
    assert told == ["experiment=smoke_mobile"]


@pytest.mark.usefixtures("on_path")
def test_in_bash_at_the_keyboard(tmp_path: Path) -> None:
    """readline itself, in a terminal: Tab makes the word, and the command runs."""
    import pty
    import select
    import time

    pid, master = pty.fork()
    if pid == 0:  # pragma: no cover
        import os

        os.execvp("bash", ["bash", "--norc", "-i"])
    import os

    def until(wanted: str, seconds: float = 60) -> str:
        shown, end = "", time.monotonic() + seconds
        while wanted not in shown and time.monotonic() < end:
            if select.select([master], [], [], 0.2)[0]:
                shown += os.read(master, 65536).decode(errors="replace")
        assert wanted in shown, shown
        return shown

    os.write(master, b'PS1=ready:; eval "$(paribus completion bash)"; echo o""k\n')
    until("ok\r\n")
    os.write(master, b"paribus train experi\t")
    until("experiment=")
    os.write(master, b"smoke_m\t")
    until("smoke_mobile")
    os.write(master, b"techniq\tcutmi\t")
    until("technique=cutmix")
    os.write(master, b"\x15exit\n")
    os.waitpid(pid, 0)
    os.close(master)


@pytest.mark.usefixtures("on_path")
def test_in_fish() -> None:
    ask = 'paribus completion fish | source; complete -C "{}"'
    assert shell("fish", ask.format("paribus train experiment=smoke_m")) == ["experiment=smoke_mobile"]
    assert shell("fish", ask.format("paribus eval ")) == RUNS
    assert shell("fish", ask.format("paribus li")) == ["list"]


@pytest.mark.usefixtures("on_path")
def test_in_zsh() -> None:
    """compadd shows only in a line editor, so here it prints what it was given."""
    stub = 'compadd() { while [[ $1 != -- ]]; do shift; done; shift; print -l -- "$@" }; compdef() { :; }'
    ask = "words=(paribus {}); CURRENT=${{#words}}; _paribus"
    before = f'{stub}; eval "$(paribus completion zsh)";'
    assert [w for w in shell("zsh", before + ask.format("train experiment=smoke_m")) if w] == [
        "experiment=smoke_mobile"
    ]
    assert [w for w in shell("zsh", before + ask.format("eval ''")) if w] == RUNS
    assert [w for w in shell("zsh", before + ask.format("train tech")) if w] == ["technique="]
    quoted = """train "'technique=[cutm" """  # as zsh tells a word whose quotes are still open
    assert [w for w in shell("zsh", before + ask.format(quoted)) if w] == ["technique=[cutmix"]
