"""Stopping on request: SIGTERM and SIGINT end training at a place from which it can go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from guiju.errors import GuijuError

EXIT_CODE = 143


class TrainingInterrupted(GuijuError):  # noqa: N818 -- a request that was met, not an error
    """Training was asked to stop and did, after a checkpoint; the message says how to go on."""

    exit_code = EXIT_CODE

    def __init__(self, message: str, *, step: int, checkpoint: Path) -> None:
        super().__init__(message)
        self.step = step
        self.checkpoint = checkpoint


class Cut(BaseException):
    """Leaves a computation whose result will be dropped. No Exception, so that no library on the way swallows it."""


class StopSignals:
    """While entered, SIGTERM and SIGINT are noted, and cut short what is marked as safe to cut.

    Signals reach the main thread only; entered from another one, this notices none.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._cuttable = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def cuttable(self) -> Iterator[None]:
        """Raise Cut inside as soon as a stop is asked for, be it before, within or (from a second signal) again."""
        try:
            self._cuttable = True
            if self.received is not None:
                raise Cut
            yield
        finally:
            self._cuttable = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        if self._cuttable:
            self._cuttable = False
            raise Cut
