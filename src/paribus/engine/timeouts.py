"""How long ranks wait for each other, and who ends a process first. No torch here.

Three watches look at a group of processes. Ours (watch.py) notices a rank that is gone and ends every process with a
line that says which, at most PATIENCE seconds after it went. The backend's timeout (`runtime.timeout`) ends what waits
in a collective for a rank that is alive but stuck; torch's own defaults are ten minutes for NCCL and half an hour for
gloo, ours is one number for both. NCCL's watchdog, a thread of torch's, kills its process without a word of ours: at
the timeout, and on an error of NCCL such as a connection that another rank's end has closed. After either it sleeps
four times TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC first. So PATIENCE has to be shorter than both, and is checked against
both. What remains is a CUDA error of a rank itself, on which its watchdog kills it at once (pytorch#126544); the other
ranks then say that it is gone. TORCH_NCCL_RETHROW_CUDA_ERRORS=0 would change that, and would also switch the watchdog
off after an error of NCCL, so it is not set here.
"""

from collections.abc import Mapping

from paribus.core.errors import ConfigError

BEAT, SILENCE_LIMIT = 1.0, 15.0  # seconds
GRACE = 4.0  # for the main thread to exit by an error of its own
CLOSING = 8.0  # and, where it has such an error, to write it down
PATIENCE = SILENCE_LIMIT + 2 * BEAT + GRACE + CLOSING

DUMP_WAIT = "TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC"
DUMP_WAITS = 4  # of these the watchdog sleeps (ProcessGroupNCCL.cpp, Watchdog::runLoop)
DUMP_WAIT_MS = 15_000  # torch's default, set all the same, so that it stays what was counted with


def check_timeout(seconds: int) -> int:
    """For the schema of runtime.timeout. Raises ValueError where the backend could end a process before our watch."""
    if seconds <= PATIENCE:
        raise ValueError(f"should be more than {PATIENCE:.0f} seconds, in which the ranks themselves find who is gone")
    return seconds


def nccl_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The variables to set before NCCL's watchdog starts. Raises ConfigError if the environment makes it end a process
    before our watch has spoken."""
    found = env.get(DUMP_WAIT, str(DUMP_WAIT_MS))
    if not found.isdecimal() or DUMP_WAITS * int(found) <= 1000 * PATIENCE:
        least = int(1000 * PATIENCE) // DUMP_WAITS + 1
        raise ConfigError(
            f"{DUMP_WAIT}: found {found!r} in the environment; with less than {least} NCCL's watchdog would end a "
            "process before the ranks have said who is gone; unset it"
        )
    return {DUMP_WAIT: found}
