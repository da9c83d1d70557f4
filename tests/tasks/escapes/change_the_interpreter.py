"""Change the interpreter."""

open("/python/bin/python3", "r+b").write(b"x")
print("escaped")
