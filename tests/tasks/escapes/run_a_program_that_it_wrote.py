"""Run a program that it wrote."""

import os
import shutil

shutil.copy("/python/bin/python3", "/tmp/mine")
os.chmod("/tmp/mine", 0o4755)
code = "import os; print('escaped' if os.getuid() == 0 else ''); os.fork(); print('escaped')"
os.execv("/tmp/mine", ["/tmp/mine", "-S", "-c", code])
