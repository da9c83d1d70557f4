"""Stops itself."""

import os
import signal


def solve(*_):
    os.kill(os.getpid(), signal.SIGTERM)
