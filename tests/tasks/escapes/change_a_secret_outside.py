"""Change a secret outside."""

import json

told = json.loads(input())
open(told["secret"], "a").write("x")
print("escaped")
