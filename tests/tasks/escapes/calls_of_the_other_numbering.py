"""Calls of the other numbering."""

import ctypes
import os
import platform

library = ctypes.CDLL(None, use_errno=True)
if platform.machine() == "x86_64" and library.syscall(ctypes.c_long(0x40000000 + 41), 2, 1, 0) >= 0:
    print("escaped")
if platform.machine() == "x86_64" and library.syscall(ctypes.c_long(0x40000000 + 39)) == os.getpid():
    print("escaped")
