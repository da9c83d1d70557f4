"""Exhaust memory by compiled code."""

code = compile("x = [" + "1," * 10**8 + "]", "large", "exec")
print("escaped")
