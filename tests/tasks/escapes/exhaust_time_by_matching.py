"""Exhaust time by matching."""

import re

print("escaped", re.match(r"(a|aa)+$", "a" * 60 + "b"))
