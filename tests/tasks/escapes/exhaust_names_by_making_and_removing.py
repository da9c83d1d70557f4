"""Exhaust names by making and removing."""

import os

for number in range(10**9):
    with open(f"/tmp/{number}", "w") as file:
        file.write("x" * 4096)
    os.remove(f"/tmp/{number}")
print("escaped")
