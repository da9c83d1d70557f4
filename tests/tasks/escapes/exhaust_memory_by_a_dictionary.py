"""Exhaust memory by a dictionary."""

held = {}
for number in range(10**9):
    held[number] = str(number)
print("escaped")
