"""Write a file outside."""

import json

told = json.loads(input())
open(told["folder"] + "/planted", "w").write("x")
print("escaped")
