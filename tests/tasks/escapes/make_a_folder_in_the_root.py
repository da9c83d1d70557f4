"""Make a folder in the root."""

import os

os.mkdir("/etc")
print("escaped")
