"""Exhaust the disk."""

written = 0
with open("/tmp/large", "wb") as file:
    while written < 1 << 30:
        written += file.write(bytes(1 << 20))
print("escaped")
