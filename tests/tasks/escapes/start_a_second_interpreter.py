"""Start a second interpreter."""

import subprocess

subprocess.run(["/python/bin/python3", "-c", ""], check=True)
print("escaped")
