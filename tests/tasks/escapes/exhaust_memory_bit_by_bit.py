"""Exhaust memory bit by bit."""

held = []
while True:
    held.append(bytearray(1 << 20))
    if len(held) == 2048:
        print("escaped")
        break
