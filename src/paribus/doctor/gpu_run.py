"""Runs the checks of `paribus doctor gpu` within a budget of time. Each part has a share of it, so that slow checks of
one part take nothing from the next; what does not fit in is listed."""

import time
import warnings
from collections.abc import Callable, Sequence

from paribus.core.errors import explain_exception
from paribus.doctor.gpu_check import CheckResult, GpuCheck, Mismatch, NotHere, Part, free_memory

SHARES: dict[Part, float] = {"correct": 0.4, "waits": 0.6, "times": 1.0}  # of the budget, by when a part has to end


def run_checks(
    checks: Sequence[GpuCheck],
    budget: float,
    log: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> list[CheckResult]:
    """A result for each check, in order. budget: seconds for all of them."""
    start, results = clock(), list[CheckResult]()
    for check in checks:
        left = start + SHARES[check.part] * budget - clock()
        if left < check.seconds:
            why = (
                f"takes about {check.seconds:.0f} s, {max(left, 0):.0f} s were left for its part; --minutes gives more"
            )
            results.append(CheckResult(check.part, check.name, "not run", why))
            continue
        log(f"{check.part}: {check.name}")
        results.append(run_check(check, clock))
        free_memory()
        if results[-1].state == "failed":
            log(f"failed: {check.name}: {results[-1].found}")
    return results


def run_check(check: GpuCheck, clock: Callable[[], float] = time.monotonic) -> CheckResult:
    """The result of one check, whatever it raises."""
    began = clock()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of compilers and autotuners, on every net
            passed = check.run()
    except NotHere as reason:
        return CheckResult(check.part, check.name, "skipped", str(reason), clock() - began)
    except Mismatch as difference:
        return CheckResult(check.part, check.name, "failed", str(difference), clock() - began)
    except Exception as error:  # of CUDA, a compiler, a library: the check did not hold
        return CheckResult(check.part, check.name, "failed", explain_exception(error), clock() - began)
    return CheckResult(check.part, check.name, "ok", passed.found, clock() - began, passed.numbers)
