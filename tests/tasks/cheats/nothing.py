"""Nothing."""


def solve(*_): ...
