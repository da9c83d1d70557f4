"""Read inherited handles."""

import os

for handle in range(3, 1024):
    try:
        os.fstat(handle)
        print("escaped", handle)
    except OSError:
        pass
