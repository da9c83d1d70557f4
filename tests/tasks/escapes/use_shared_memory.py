"""Use shared memory."""

import os

if os.path.exists("/dev/shm"):
    open("/dev/shm/planted", "w").write("x")
    print("escaped")
