"""Exhaust memory by doubling."""

text = "x"
while len(text) < 1 << 33:
    text += text
print("escaped")
