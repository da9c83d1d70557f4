"""Exhaust the disk by many files."""

for number in range(1024):
    with open(f"/tmp/{number}", "wb") as file:
        file.write(bytes(1 << 20))
print("escaped")
