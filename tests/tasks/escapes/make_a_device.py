"""Make a device."""

import os
import stat

os.mknod("/tmp/disk", 0o666 | stat.S_IFBLK, os.makedev(8, 0))
print("escaped")
