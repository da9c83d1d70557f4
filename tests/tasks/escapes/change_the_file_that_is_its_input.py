"""Change the file that is its input."""

import json
import os

told = json.loads(input())
for handle in (0, 3, 4, 5):
    try:
        os.ftruncate(handle, 1 << 20)
        print("escaped")
    except OSError:
        pass
