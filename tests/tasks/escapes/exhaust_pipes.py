"""Exhaust pipes."""

import fcntl
import os

for _ in range(1000):
    read, write = os.pipe()
    fcntl.fcntl(write, 1031, 1 << 20)  # F_SETPIPE_SZ
    os.write(write, bytes(1 << 16))
print("escaped")
