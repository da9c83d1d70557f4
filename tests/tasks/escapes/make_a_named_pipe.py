"""Make a named pipe."""

import os

os.mkfifo("/tmp/pipe")
print("escaped")
