"""Exhaust the stack by printing."""

value = []
for _ in range(10**6):
    value = [value]
repr(value)
print("escaped")
