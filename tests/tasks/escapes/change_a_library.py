"""Change a library."""

import glob

for path in glob.glob("/lib*/*"):
    try:
        open(path, "r+b").write(b"x")
        print("escaped")
    except OSError:
        pass
