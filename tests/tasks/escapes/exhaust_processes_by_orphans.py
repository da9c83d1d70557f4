"""Exhaust processes by orphans."""

import os

for _ in range(100):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv("/python/bin/python3", ["python3", "-c", "import time; time.sleep(1000)"])
        os._exit(0)
print("escaped")
