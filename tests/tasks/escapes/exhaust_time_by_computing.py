"""Exhaust time by computing."""

while True:
    pass
