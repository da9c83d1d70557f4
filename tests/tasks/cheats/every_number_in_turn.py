"""Every number in turn."""


def solve(*_):
    yield from range(1000)
