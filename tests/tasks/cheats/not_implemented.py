"""Not implemented."""


def solve(*_):
    return NotImplemented
