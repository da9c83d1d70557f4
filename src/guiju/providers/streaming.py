"""A text as an iterator, where the program that writes it calls back."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

AT_MOST = 64
"""Pieces that may wait for whoever listens: a slow one slows the writing, in place of filling memory."""


class _Stopped(Exception):  # noqa: N818 -- no error: nobody listens any more
    pass


def stream_text(write: Callable[[Callable[[int, str], None]], object]) -> Iterator[str]:
    """The pieces that `write` hands to the callback it is given, in order; its error, if one comes, comes last.

    It runs in a thread of its own, beginning when the first piece is asked for. Where the iterator is closed early, its
    next call back ends it.
    """
    pieces: queue.Queue[str | BaseException | None] = queue.Queue(AT_MOST)
    closed = threading.Event()

    def put(item: str | BaseException | None) -> None:
        while not closed.is_set():
            try:
                return pieces.put(item, timeout=0.1)
            except queue.Full:
                continue
        raise _Stopped

    def run() -> None:
        try:
            write(lambda _, piece: put(piece))
            put(None)
        except _Stopped:
            pass
        except BaseException as problem:
            if not closed.is_set():
                put(problem)

    thread = threading.Thread(target=run, name="guiju-stream", daemon=True)
    thread.start()
    try:
        while (item := pieces.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        closed.set()
        thread.join()
