"""Read a secret by dots."""

import json

told = json.loads(input())
print("escaped", open("/tmp/" + "../" * 20 + told["secret"]).read())
