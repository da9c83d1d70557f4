"""Trace itself."""

import ctypes
import os
import platform

library = ctypes.CDLL(None, use_errno=True)


def call(number, *values):
    result = library.syscall(ctypes.c_long(number), *(ctypes.c_long(v) if isinstance(v, int) else v for v in values))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


NUMBER = {"x86_64": 101, "aarch64": 117}[platform.machine()]
call(NUMBER, 0, 0, 0, 0)
print("escaped")
