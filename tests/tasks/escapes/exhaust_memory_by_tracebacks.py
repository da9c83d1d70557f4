"""Exhaust memory by tracebacks."""


def again(held):
    try:
        raise ValueError(bytearray(1 << 20))
    except ValueError as problem:
        held.append(problem)


held = []
for _ in range(4096):
    again(held)
print("escaped")
