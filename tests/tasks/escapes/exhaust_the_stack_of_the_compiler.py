"""Exhaust the stack of the compiler."""

eval("-" * 10**6 + "1")
eval("(" * 10**5)
print("escaped")
