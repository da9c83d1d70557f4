"""Leave something for the next program."""

import os

if os.path.exists("/tmp/left"):
    print("escaped")
open("/tmp/left", "w").write("x")
