"""Cores: affinity and the quotas of cgroup v2 and v1, read from the texts that the kernel gives."""

import pytest

from paribus.core import cores
from paribus.core.cores import find_quota

CGROUP = "/proc/self/cgroup"
V1 = "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n2:cpuset:/\n"


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({CGROUP: "0::/\n", "/sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2.5),
        ({CGROUP: "0::/\n", "/sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({CGROUP: "0::/\n"}, None),
        # the group itself, and those above it: the smallest counts
        ({CGROUP: "0::/a/b\n", "/sys/fs/cgroup/a/b/cpu.max": "50000 100000", "/sys/fs/cgroup/a/cpu.max": "max 1"}, 0.5),
        (
            {
                CGROUP: "0::/a/b\n",
                "/sys/fs/cgroup/a/b/cpu.max": "400000 100000",
                "/sys/fs/cgroup/a/cpu.max": "300000 100000",
            },
            3.0,
        ),
        # a path of the host, of which the container sees the root alone
        ({CGROUP: "0::/system.slice/docker-1.scope\n", "/sys/fs/cgroup/cpu.max": "150000 50000"}, 3.0),
        (
            {
                CGROUP: V1,
                "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "600000\n",
                "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            6.0,
        ),
        (
            {
                CGROUP: V1,
                "/sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us": "-1\n",
                "/sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        # memory and cpuset have no CPU quota
        ({CGROUP: "2:cpuset:/\n", "/sys/fs/cgroup/cpuset/cpu.cfs_quota_us": "1"}, None),
        ({CGROUP: "0::/\n", "/sys/fs/cgroup/cpu.max": "nonsense"}, None),
    ],
)
def test_the_smallest_quota_from_here_up_counts(files: dict[str, str], quota: float | None) -> None:
    assert find_quota(files.get) == quota


@pytest.mark.parametrize(("affinity", "quota", "count"), [(8, 2.9, 2), (8, 0.5, 1), (2, 6.0, 2), (3, None, 3)])
def test_a_quota_is_rounded_down_and_leaves_one_core(
    affinity: int, quota: float | None, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: set(range(affinity)))
    monkeypatch.setattr(cores, "find_quota", lambda _: quota)
    assert cores.count_cores() == count
