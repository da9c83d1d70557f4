"""Exhaust the stack."""

import sys

sys.setrecursionlimit(10**9)


def again(x):
    return again(x) + again(x)


again(0)
print("escaped")
