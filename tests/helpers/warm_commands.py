"""Commands in processes of their own that start warm: forked from one that has imported what a training imports.

To import torch, and what its first optimizer imports (torch._dynamo, SymPy), takes 3 to 4 seconds of a core: more than
most tests do with it. The process that forks runs nothing itself, so a command finds what it would find in a fresh
interpreter after its imports. What is read while they run (variables of OpenMP, of CUDA, of Python itself) is as when
that process started; `is_warm` says for which commands that will do, all others get a fresh interpreter.
"""

import atexit
import json
import os
import select
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

# those that import torch; what the others import is a matter of their own tests
COMMANDS = ("train", "eval", "predict", "export", "verify")
_READ_AT_START = ("OMP", "MKL", "KMP", "TORCH", "CUDA", "NCCL", "LD_", "LC_", "LANG", "PYTHON", "RANK", "WORLD_SIZE")


class WarmCommands:
    """Starts when it is first asked."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None
        self._environment: dict[str, str] = {}

    def is_warm(self, words: Sequence[str], environment: Mapping[str, str]) -> bool:
        started_with = self._environment if self._server else {**os.environ, "OMP_NUM_THREADS": "1"}
        return bool(words) and words[0] in COMMANDS and _read_at_start(environment) == _read_at_start(started_with)

    def run(
        self, words: Sequence[str], cwd: Path, environment: Mapping[str, str], seconds: float
    ) -> subprocess.CompletedProcess[str]:
        """As subprocess.run with captured text."""
        server = self._started(environment)
        assert server.stdin is not None
        assert server.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            asked = {"words": [*words], "cwd": str(cwd), "env": {**environment}, "out": str(out), "err": str(err)}
            server.stdin.write(json.dumps(asked) + "\n")
            server.stdin.flush()
            process = int(server.stdout.readline())
            if not select.select([server.stdout], [], [], seconds)[0]:
                os.kill(process, 9)
                server.stdout.readline()
                raise subprocess.TimeoutExpired([*words], seconds, out.read_bytes(), err.read_bytes())
            code = int(server.stdout.readline())
            return subprocess.CompletedProcess(["paribus", *words], code, out.read_text(), err.read_text())

    def close(self) -> None:
        if self._server is not None:
            with self._server as server:
                assert server.stdin is not None
                server.stdin.close()
                server.wait(30)

    def _started(self, environment: Mapping[str, str]) -> "subprocess.Popen[str]":
        if self._server is None:
            self._environment = {**environment}
            self._server = subprocess.Popen(
                [sys.executable, __file__],
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
            )
        return self._server


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    kept = {key: value for key, value in environment.items() if key.startswith(_READ_AT_START)}
    for key in ("PYTHONPATH", "TORCHINDUCTOR_CACHE_DIR"):  # which is followed, and which torch sets as it is imported
        kept.pop(key, None)
    return kept


def _serve() -> None:
    """A line for each command: what to run. Answers with its process, and with its exit code when it has ended."""
    import hydra  # noqa: F401
    import sklearn.datasets  # noqa: F401 — of the digits
    import torch._dynamo  # noqa: F401

    import paribus.cli.train
    import paribus.runs.evaluation
    import paribus.runs.train  # noqa: F401

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            os._exit(_run(json.loads(line)))
        answers.write(f"{process}\n")
        _, status = os.waitpid(process, 0)
        answers.write(f"{os.waitstatus_to_exitcode(status)}\n")


def _run(asked: dict[str, object]) -> int:
    """What `python -m paribus.cli WORDS` does after its imports."""
    import paribus.cli

    for number, name, flags in (
        (0, os.devnull, os.O_RDONLY),
        *((k, str(asked[which]), os.O_WRONLY | os.O_CREAT | os.O_APPEND) for k, which in ((1, "out"), (2, "err"))),
    ):
        os.dup2(os.open(name, flags, 0o600), number)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 — as long as the process, and so below
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    os.chdir(str(asked["cwd"]))
    os.environ.clear()
    os.environ.update(asked["env"])  # type: ignore[call-overload]
    added = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]
    sys.path[0:1] = [os.getcwd(), *added]  # this file's folder stands there
    sys.argv = [str(Path(paribus.cli.__file__).with_name("__main__.py")), *asked["words"]]  # type: ignore[misc]
    code = 1
    try:
        paribus.cli.main.main()
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else int(done.code is not None)
    except BaseException:
        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    _serve()
