"""Exhaust the disk by a file with holes."""

with open("/tmp/large", "wb") as file:
    file.truncate(1 << 40)
print("escaped")
