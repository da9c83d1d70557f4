"""Exhaust memory by formatting."""

print("escaped", len(format(1, "0999999999d")))
