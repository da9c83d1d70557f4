"""Move a file outside."""

import json
import os

told = json.loads(input())
open("/tmp/mine", "w").write("x")
os.rename("/tmp/mine", told["folder"] + "/planted")
print("escaped")
