"""CPU time and memory of this process together with all that it started."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil

PROC = Path("/proc")


def descendants() -> list[int]:
    """Ids of the processes below this one; those that end meanwhile are left out."""
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        children = _children(waiting.pop())
        found += children
        waiting += children
    return found


def tree_cpu_seconds() -> float:
    """CPU time of this process, of what it started and waited for, and of what still runs below it."""
    ended = os.times()
    total = time.process_time() + ended.children_user + ended.children_system
    for pid in descendants():
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + getattr(times, "children_user", 0) + getattr(times, "children_system", 0)
    return total


def tree_memory_bytes() -> int:
    """Resident memory of this process and all below it; a page that several of them share counts once in all.

    A sum of proportional set sizes, which takes milliseconds to read: without children the resident size is the same.
    """
    own = int(psutil.Process().memory_info().rss)
    below = descendants()
    return max(own, sum(_proportional(pid) for pid in [os.getpid(), *below])) if below else own


class HighWater:
    """The highest resident memory of this process alone, as the kernel keeps it: no peak falls between samples."""

    def __init__(self) -> None:
        self._exact = _reset_high_water()
        self._before = 0 if self._exact else (_high_water() or 0)

    def bytes(self) -> int | None:
        """Since this object was made; None where the kernel does not say."""
        now = _high_water()
        if now is None or (not self._exact and now <= self._before):
            return None
        return now


def _children(pid: int) -> list[int]:
    try:
        tasks = list((PROC / str(pid) / "task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except (OSError, ValueError):  # ended meanwhile, or a kernel without this list
        if PROC.exists() and not (PROC / str(pid)).exists():
            return []
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []


def _proportional(pid: int) -> int:
    try:
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _reset_high_water() -> bool:
    try:
        (PROC / "self" / "clear_refs").write_text("5")  # man 5 proc: resets VmHWM to the present size
    except OSError:
        return False
    return True


def _high_water() -> int | None:
    try:
        for line in (PROC / "self" / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None
