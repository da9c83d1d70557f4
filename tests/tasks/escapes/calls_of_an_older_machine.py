"""Calls of an older machine."""

import ctypes
import mmap
import platform

if platform.machine() == "x86_64":
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    # mov eax, 20 (getpid of 32 bits); int 0x80; ret
    code.write(bytes.fromhex("b814000000cd80c3"))
    if ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))() > 0:
        print("escaped")
