"""Read this repository."""

import json

told = json.loads(input())
print("escaped", open(told["repository"] + "/pyproject.toml").read())
