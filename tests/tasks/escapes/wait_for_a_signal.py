"""Wait for a signal."""

import signal

signal.pause()
