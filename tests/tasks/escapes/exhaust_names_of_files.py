"""Exhaust names of files."""

for number in range(10_000_000):
    open(f"/tmp/{number}", "w").close()
print("escaped")
