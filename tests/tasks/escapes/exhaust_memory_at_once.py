"""Exhaust memory at once."""

held = bytearray(1 << 36)
print("escaped")
