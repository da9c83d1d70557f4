"""Exhaust time by a lock."""

import fcntl

with open("/tmp/lock", "w") as one, open("/tmp/lock") as other:
    fcntl.flock(one, fcntl.LOCK_EX)
    fcntl.flock(other, fcntl.LOCK_EX)
print("escaped")
