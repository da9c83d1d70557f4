"""Link a file outside."""

import json
import os

told = json.loads(input())
os.link(told["secret"], "/tmp/hard")
print("escaped")
