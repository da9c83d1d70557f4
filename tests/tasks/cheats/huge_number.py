"""Huge number."""


def solve(*_):
    return 1 << 40_000_000
