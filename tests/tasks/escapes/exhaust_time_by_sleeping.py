"""Exhaust time by sleeping."""

import time

time.sleep(10**6)
print("escaped")
