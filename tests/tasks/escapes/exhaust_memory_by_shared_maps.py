"""Exhaust memory by shared maps."""

import mmap

held = [mmap.mmap(-1, 1 << 28, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS) for _ in range(8)]
for each in held:
    each[:] = b"x" * len(each)
print("escaped")
