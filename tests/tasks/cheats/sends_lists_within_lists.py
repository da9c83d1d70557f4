"""Sends lists within lists."""


def solve(*_):
    value = []
    for _ in range(100000):
        value = [value]
    return value
