"""Exhaust memory by maps."""

import mmap

held = [mmap.mmap(-1, 1 << 30) for _ in range(16)]
print("escaped")
