"""Poison a compiled module."""

import glob
import os

for path in glob.glob(os.path.dirname(os.__file__) + "/__pycache__/*.pyc")[:5]:
    try:
        open(path, "r+b").write(b"x")
        print("escaped")
    except OSError:
        pass
