"""Changes its argument."""


def solve(values):
    if isinstance(values, list):
        values.clear()
    return 0
