"""Unmount."""

import ctypes
import os
import platform

library = ctypes.CDLL(None, use_errno=True)


def call(number, *values):
    result = library.syscall(ctypes.c_long(number), *(ctypes.c_long(v) if isinstance(v, int) else v for v in values))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


NUMBER = {"x86_64": 166, "aarch64": 39}[platform.machine()]
call(NUMBER, b"/python/bin/python3", 2)
print("escaped")
