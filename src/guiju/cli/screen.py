"""What a person sees: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import typer


def fail(message: str, code: int = 2) -> NoReturn:
    """One clear message on stderr, and the exit code."""
    typer.echo(f"guiju: {message}", err=True)
    sys.exit(code)


def print_json(data: Any) -> None:
    """One JSON value on one line of stdout."""
    typer.echo(json.dumps(data, ensure_ascii=False, allow_nan=False))


def table(rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> str:
    """Columns that line up, whichever script the cells are written in."""
    from wcwidth import wcswidth

    cells = [[str(cell) for cell in row] for row in ([head, *rows] if head else rows)]
    if not cells:
        return ""

    def wide(cell: str) -> int:
        return max(wcswidth(cell), 0)

    widths = [max(wide(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [
        "  ".join(cell + " " * (width - wide(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    return "\n".join(lines)


class Progress:
    """A line that moves on a terminal, and a line every few seconds elsewhere."""

    INTERVAL_S = 5.0

    def __init__(self, stream: Any = None) -> None:
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.began = 0.0
        self.last = 0.0
        self.shown = False

    def stage(self, name: str, status: str, why: str) -> None:
        self.began = self.last = time.monotonic()
        self._clear()
        if status == "up to date":
            self._line(f"  {name:<10} up to date")
        else:
            self._line(f"> {name:<10} {why}" if why != "not done yet" else f"> {name}")

    def progress(self, done: int, total: int, label: str) -> None:
        """`total` is 0 where nobody knows it."""
        now = time.monotonic()
        is_last = 0 < total <= done
        if not is_last and now - self.last < (0.1 if self.live else self.INTERVAL_S):
            return
        if is_last and now - self.began < 1:
            return
        self.last = now
        share = min(done / total, 1.0) if total else 0.0
        text = f"    {share:4.0%}  {label}" if total else f"    {label}"
        elapsed = now - self.began
        if 0 < share < 1 and elapsed > 2 and "left" not in label:
            text += f", {duration(elapsed * (1 - share) / share)} left"
        if self.live:
            self._clear()
            self.stream.write("\r" + text[:118])
            self.stream.flush()
            self.shown = True
        else:
            self._line(text)

    def finished(self, name: str, seconds: float, line: str) -> None:
        self._clear()
        self._line(f"  {name:<10} {duration(seconds):>7}  {line}")

    def note(self, text: str) -> None:
        self._clear()
        self._line(f"    {text}")

    def _line(self, text: str) -> None:
        self.stream.write(text + "\n")
        self.stream.flush()

    def _clear(self) -> None:
        if self.live and self.shown:
            self.stream.write("\r\x1b[2K")
            self.shown = False


def duration(seconds: float) -> str:
    """Such as 0.4 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60, 1)
    if minutes < 90:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(minutes // 60)} h {int(minutes % 60)} min"
