"""Look for other programs."""

import os

for folder, _, files in os.walk("/"):
    for name in files:
        if name in ("sh", "bash", "bwrap", "mount", "gcc", "perl", "curl", "busybox"):
            print("escaped", folder, name)
