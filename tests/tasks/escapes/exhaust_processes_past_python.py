"""Exhaust processes past python."""

import ctypes

library = ctypes.CDLL(None)
for _ in range(100000):
    if library.vfork() >= 0 or library.fork() >= 0:
        print("escaped", flush=True)
        library._exit(0)
