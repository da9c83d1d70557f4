"""Exhaust time in one call."""

import sys

sys.set_int_max_str_digits(0)
print("escaped", len(str(3 ** (10**8))))
