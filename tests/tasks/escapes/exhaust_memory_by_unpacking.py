"""Exhaust memory by unpacking."""

import zlib

packed = zlib.compress(bytes(1 << 26), 9)
print("escaped", len(b"".join(zlib.decompress(packed) for _ in range(64))))
