"""Signal the parent."""

import json
import os

told = json.loads(input())
for process in (told["pid"], os.getppid(), 1):
    try:
        os.kill(process, 0)
        print("escaped", process)
    except OSError:
        pass
