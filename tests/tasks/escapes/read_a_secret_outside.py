"""Read a secret outside."""

import json

told = json.loads(input())
print("escaped", open(told["secret"]).read())
