"""Read a secret by the old root."""

import json

told = json.loads(input())
for root in ("/oldroot", "/newroot", "/.oldroot", "/proc/1/root", "/proc/self/root", "/proc/self/cwd"):
    try:
        print("escaped", open(root + told["secret"]).read())
    except OSError:
        pass
