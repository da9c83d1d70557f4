"""Recurse in a printed list."""

value = []
for _ in range(10**6):
    value = [value]
repr(value)
print("escaped")
