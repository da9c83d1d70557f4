"""Exhaust memory by a large number."""

print("escaped", (1 << (1 << 36)).bit_length())
