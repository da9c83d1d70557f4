"""Exhaust folders."""

import os

for number in range(10_000_000):
    os.mkdir(f"/tmp/{number}")
print("escaped")
