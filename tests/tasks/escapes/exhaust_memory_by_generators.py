"""Exhaust memory by generators."""

import sys


def deeper():
    held = bytearray(1 << 20)
    yield from deeper()
    yield held


sys.setrecursionlimit(10**6)
list(deeper())
print("escaped")
