"""Read the home of the user."""

import json
import os

told = json.loads(input())
print("escaped", os.listdir(told["home"]))
