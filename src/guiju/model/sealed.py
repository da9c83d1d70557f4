"""A process that can compute, read and write the files that it has open, and nothing else.

The kernel then refuses to open a file, to connect, to start a process or a thread, and to signal another one, whatever
code comes to run (seccomp, filter mode: https://docs.kernel.org/userspace-api/seccomp_filter.html). Linux alone.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys

_NO_NEW_PRIVILEGES, _SET_PARENT_DEATH_SIGNAL = 38, 1  # PR_SET_*
_SET_FILTER, _ALL_THREADS = 1, 1  # SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC
_ALLOW, _DENY, _KILL = 0x7FFF0000, 0x00050000, 0x80000000  # SECCOMP_RET_*; _DENY gives the errno below
_NOT_PERMITTED = 1
# BPF: load a word of (number, architecture, ...); jump where equal; where at least; return.
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06

# Numbers of the calls that remain: reading and writing what is open, memory, clocks, waiting and the end.
_X86_64 = {
    **{"read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11},
    **{"brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "pread64": 17},
    **{"pwrite64": 18, "readv": 19, "writev": 20, "sched_yield": 24, "mremap": 25, "madvise": 28, "nanosleep": 35},
    **{"getpid": 39, "exit": 60, "fsync": 74, "gettimeofday": 96, "sysinfo": 99, "sigaltstack": 131},
    **{"gettid": 186, "futex": 202, "clock_gettime": 228, "clock_nanosleep": 230, "exit_group": 231},
    **{"sched_getaffinity": 204, "getrandom": 318, "rseq": 334},
}
_AARCH64 = {
    **{"close": 57, "lseek": 62, "read": 63, "write": 64, "readv": 65, "writev": 66},
    **{"pread64": 67, "pwrite64": 68, "ppoll": 73, "fstat": 80, "fsync": 82, "exit": 93, "exit_group": 94, "futex": 98},
    **{"nanosleep": 101, "clock_gettime": 113, "clock_nanosleep": 115, "sched_getaffinity": 123, "sched_yield": 124},
    **{"sigaltstack": 132, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "gettimeofday": 169},
    **{"getpid": 172, "gettid": 178, "sysinfo": 179, "brk": 214, "munmap": 215, "mremap": 216, "mmap": 222},
    **{"mprotect": 226, "madvise": 233, "getrandom": 278, "rseq": 293},
}
_MACHINES = {"x86_64": (0xC000003E, 317, _X86_64), "aarch64": (0xC00000B7, 277, _AARCH64)}
"""By machine: AUDIT_ARCH_*, the number of seccomp itself, and the calls."""
_OTHER_NUMBERS = 0x40000000  # x32's calls have numbers from here on, with other meanings


def can_seal() -> bool:
    """Whether this machine is one whose calls are known here. The kernel may still refuse; then `seal` raises."""
    return sys.platform == "linux" and platform.machine() in _MACHINES and struct.calcsize("P") == 8


def limit(memory_bytes: int, file_bytes: int, seconds: int) -> None:
    """Limits of this process: memory beyond what it holds now, size of a file that it writes, seconds of processor."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 -- no more is imported here
        held = int(file.read().split()[0]) * resource.getpagesize()
    for kind, value in (
        (resource.RLIMIT_AS, held + memory_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        most = resource.getrlimit(kind)[1]
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(kind, (value, value))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing too much is then an error that can be told


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when the one that started it ends, however it ends."""
    _prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it had ended before the kernel was asked
        os._exit(1)


def seal() -> None:
    """Give up every call that is not listed above, for good.

    Raises:
        OSError: the machine is another one, or the kernel refuses; nothing foreign may be run then.
    """
    if not can_seal():
        raise OSError(f"calls of {sys.platform} on {platform.machine()} are not known")
    architecture, seccomp, calls = _MACHINES[platform.machine()]
    numbers = sorted(set(calls.values()))
    program = [
        struct.pack("HBBI", _LOAD, 0, 0, 4),
        struct.pack("HBBI", _EQUAL, 1, 0, architecture),
        struct.pack("HBBI", _RETURN, 0, 0, _KILL),
        struct.pack("HBBI", _LOAD, 0, 0, 0),
        struct.pack("HBBI", _AT_LEAST, len(numbers), 0, _OTHER_NUMBERS),
    ]
    for position, number in enumerate(numbers):
        program.append(struct.pack("HBBI", _EQUAL, len(numbers) - position, 0, number))
    program.append(struct.pack("HBBI", _RETURN, 0, 0, _DENY | _NOT_PERMITTED))
    program.append(struct.pack("HBBI", _RETURN, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(program))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    _prctl(_NO_NEW_PRIVILEGES, 1)
    long = ctypes.c_long
    call = ctypes.CDLL(None, use_errno=True).syscall
    if call(long(seccomp), long(_SET_FILTER), long(_ALL_THREADS), long(ctypes.addressof(head))) != 0:
        raise _problem()


def _prctl(what: int, value: int) -> None:
    unsigned = ctypes.c_ulong
    call = ctypes.CDLL(None, use_errno=True).prctl
    if call(ctypes.c_int(what), unsigned(value), unsigned(0), unsigned(0), unsigned(0)) != 0:
        raise _problem()


def _problem() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
