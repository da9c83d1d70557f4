"""Crash the interpreter."""

import ctypes

ctypes.memset(id(None), 255, 1 << 12)
