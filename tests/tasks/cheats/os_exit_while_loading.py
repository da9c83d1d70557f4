"""Os exit while loading."""

import os

os._exit(0)


def solve(*_): ...
