"""Exhaust time by starting again."""

import os

code = "import os, sys; os.execv(sys.orig_argv[0], sys.orig_argv)"
os.execv("/python/bin/python3", ["/python/bin/python3", "-S", "-c", code])
