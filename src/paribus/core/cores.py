"""How many processor cores this process may use: its affinity mask and, in a container, the CPU quota of its cgroup.

A quota (docker --cpus=2, a Kubernetes limit) hides no cores: who ignores it makes 64 threads, and the kernel stops them
all for most of the time. No torch here: `paribus study` counts cores too.
"""

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

ReadFile = Callable[[str], str | None]  # the text of a file, None if there is none


def count_cores() -> int:
    """How many cores this process may use, at least 1; a quota is rounded down."""
    known = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = find_quota(_read_file)
    return known if quota is None else max(1, min(known, int(quota)))


def find_quota(read: ReadFile) -> float | None:
    """The smallest CPU quota of this process's cgroup and those above it, in cores; None if there is none.

    cgroup v2 and v1. In a container the path in /proc/self/cgroup may be the host's: then none of its folders is there
    but the root, which is the container's own.
    """
    quotas: list[float] = []
    for line in (read("/proc/self/cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        is_v2 = number == "0" and not controllers
        if is_v2 or "cpu" in controllers.split(","):
            roots = ("", "/unified") if is_v2 else (f"/{controllers}", "/cpu")
            folder = PurePosixPath("/", path.lstrip("/"))
            folders = [f"/sys/fs/cgroup{root}{level}" for root in roots for level in (folder, *folder.parents)]
            quotas += [quota for at in folders if (quota := _read_quota(at, read, is_v2)) is not None]
    return min(quotas, default=None)


def _read_quota(folder: str, read: ReadFile, is_v2: bool) -> float | None:
    folder = folder.rstrip("/")
    if is_v2:
        quota, _, period = (read(f"{folder}/cpu.max") or "max").strip().partition(" ")
    else:
        quota, period = (read(f"{folder}/cpu.cfs_{name}_us") or "" for name in ("quota", "period"))
    try:
        return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None
    except ValueError:  # "max", or a file that is not there
        return None


def _read_file(path: str) -> str | None:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError):
        return None
