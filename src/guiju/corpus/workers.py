"""Work spread over processes: results come back in the order of the tasks, and only a few tasks are under way."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from guiju.errors import DataError

Result = TypeVar("Result")

SMALL_BYTES = 8 << 20
"""Less input than this is not worth starting processes for."""
MOST_UNASKED = 4
"""Each takes some 150 MB: with more, a gigabyte of text would take more than a gigabyte of memory."""


class Workers:
    """Runs functions in worker processes, or in this one where there are none.

    Processes are spawned, not forked: a fork would copy locks that other threads hold, such as torch's.
    """

    def __init__(self, processes: int, start: Callable[..., None], *arguments: Any) -> None:
        self._under_way = 2 * processes
        self._pool: ProcessPoolExecutor | None = None
        if processes > 1:
            self._pool = ProcessPoolExecutor(
                processes,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start,
                initargs=(start, arguments),
            )
        else:
            start(*arguments)

    def map(self, work: Callable[..., Result], tasks: Iterable[tuple[Any, ...]]) -> Iterator[Result]:
        """Results in order. Tasks are drawn as they are needed, so that they need not fit into memory."""
        if self._pool is None:
            for task in tasks:
                yield work(*task)
            return
        waiting: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                waiting.append(self._pool.submit(work, *task))
                if len(waiting) > self._under_way:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise DataError(
                "a worker process ended before its work was done, most likely for lack of memory: set corpus.processes "
                "lower. (In a Python script, build_corpus must be called below `if __name__ == '__main__':`.)"
            ) from None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def how_many(processes: int, input_bytes: int) -> int:
    """The number of processes to work with; 1 means this one alone."""
    if processes:
        return processes
    return 1 if input_bytes < SMALL_BYTES else min(MOST_UNASKED, len(os.sched_getaffinity(0)))


def _start(start: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ["RAYON_NUM_THREADS"] = "1"  # one thread a process: the processes are the parallelism
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_end_with_parent, daemon=True).start()
    start(*arguments)


def _end_with_parent() -> None:
    """A parent that is killed cannot tell its workers to stop: they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
