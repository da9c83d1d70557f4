"""Remove a file outside."""

import json
import os

told = json.loads(input())
os.remove(told["secret"])
print("escaped")
