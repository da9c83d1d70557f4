"""Read the environment of others."""

import glob

for path in glob.glob("/proc/*/environ"):
    print("escaped", open(path, "rb").read())
