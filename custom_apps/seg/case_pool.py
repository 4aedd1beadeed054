"""Work on many cases, in this process or in several."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

logger = logging.getLogger(__name__)

# Starting a process costs seconds of imports, which small data sets do not win back.
BYTES_WORTH_A_PROCESS = 200 * 2**20


def processes_for(total_bytes: int, num_processes: int | None) -> int:
    """Number of processes: as asked for, or one for every 200 MiB of files, at most as many as there are processors."""
    if num_processes is not None:
        if num_processes < 1:
            raise ValueError(f"num_processes is {num_processes}, expected at least 1")
        return num_processes
    return max(1, min(os.cpu_count() or 1, total_bytes // BYTES_WORTH_A_PROCESS))


def run_cases(work: Callable[..., Any], arguments: Sequence[tuple], num_processes: int, what: str) -> list[Any]:
    """Calls ``work(*arguments[i])`` for each case and gives the results in order.

    The first error is raised, after the cases already under way have ended.
    """
    step = max(1, len(arguments) // 10)
    results = []

    def collect(result: Any) -> None:
        results.append(result)
        if len(results) % step == 0 or len(results) == len(arguments):
            logger.info("%s: %d of %d cases", what, len(results), len(arguments))

    if num_processes == 1 or len(arguments) < 2:
        for item in arguments:
            collect(work(*item))
        return results
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(num_processes, len(arguments)), mp_context=context) as pool:
        futures = [pool.submit(work, *item) for item in arguments]
        try:
            for future in futures:
                collect(future.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return results
