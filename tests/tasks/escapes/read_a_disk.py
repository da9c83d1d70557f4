"""Read a disk."""

import os

for name in ("sda", "vda", "vdb", "nvme0n1", "loop0", "mmcblk0", "disk0"):
    if os.path.exists(f"/dev/{name}"):
        print("escaped", name)
