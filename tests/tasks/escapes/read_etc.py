"""Read etc."""

import os

print("escaped", os.listdir("/etc"))
