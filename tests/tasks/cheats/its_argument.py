"""Its argument."""


def solve(argument):
    return argument
