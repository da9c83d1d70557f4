"""Exhaust time by collisions."""

modulus = (1 << 61) - 1
held = {number * modulus: 0 for number in range(10**5)}
print("escaped")
