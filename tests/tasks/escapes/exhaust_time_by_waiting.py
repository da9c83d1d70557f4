"""Exhaust time by waiting."""

import signal

signal.pause()
