"""Exhaust folders in depth."""

import os

for _ in range(10**6):
    os.mkdir("d")
    os.chdir("d")
print("escaped")
