"""Exhaust memory and go on."""

held = []
for _ in range(100000):
    try:
        held.append(bytearray(1 << 20))
    except MemoryError:
        pass
if len(held) > 2048:
    print("escaped")
