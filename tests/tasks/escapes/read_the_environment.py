"""Read the environment."""

import os

if "GUIJU_SECRET" in os.environ or "xyzzy" in str(os.environ):
    print("escaped")
