"""Read a secret through a link."""

import json
import os

told = json.loads(input())
os.symlink(told["secret"], "/tmp/link")
print("escaped", open("/tmp/link").read())
