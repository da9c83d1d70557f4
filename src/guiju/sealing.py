"""Processes that may make a few of the kernel's calls and no other, whatever code comes to run.

By seccomp in filter mode (https://docs.kernel.org/userspace-api/seccomp_filter.html), on Linux alone. `seal` leaves a
process what it needs to compute, and to read and write the files that it has open; `filter_program` makes the same
kind of wall of other calls, for whoever loads it before another program starts.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Iterable

_NO_NEW_PRIVILEGES, _SET_PARENT_DEATH_SIGNAL = 38, 1  # PR_SET_*
_SET_FILTER, _ALL_THREADS = 1, 1  # SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC
_ALLOW, _DENY, _KILL = 0x7FFF0000, 0x00050000, 0x80000000  # SECCOMP_RET_*; _DENY gives the errno below
_NOT_PERMITTED = 1
# BPF: load a word of (number, architecture, ...); jump where equal; where at least; return.
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06

# Each call's number on x86_64 and on aarch64, None where the machine has none of that name.
_NUMBERS: dict[str, tuple[int | None, int | None]] = {
    **{"read": (0, 63), "write": (1, 64), "open": (2, None), "close": (3, 57), "stat": (4, None), "fstat": (5, 80)},
    **{"lstat": (6, None), "poll": (7, None), "lseek": (8, 62), "mmap": (9, 222), "mprotect": (10, 226)},
    **{"munmap": (11, 215), "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135)},
    **{"rt_sigreturn": (15, 139), "pread64": (17, 67), "pwrite64": (18, 68), "readv": (19, 65), "writev": (20, 66)},
    **{"access": (21, None), "pipe": (22, None), "select": (23, None), "sched_yield": (24, 124), "mremap": (25, 216)},
    **{"madvise": (28, 233), "dup": (32, 23), "dup2": (33, None), "pause": (34, None), "nanosleep": (35, 101)},
    **{"getitimer": (36, 102), "alarm": (37, None), "setitimer": (38, 103), "getpid": (39, 172), "execve": (59, 221)},
    **{"exit": (60, 93), "wait4": (61, 260), "uname": (63, 160), "fcntl": (72, 25), "fsync": (74, 82)},
    **{
        "fdatasync": (75, 83),
        "truncate": (76, 45),
        "ftruncate": (77, 46),
        "getdents": (78, None),
        "getcwd": (79, 17),
        "chdir": (80, 49),
    },
    **{"fchdir": (81, 50), "rename": (82, None), "mkdir": (83, None), "rmdir": (84, None), "unlink": (87, None)},
    **{"readlink": (89, None), "umask": (95, 166), "gettimeofday": (96, 169), "getrlimit": (97, 163)},
    **{"getrusage": (98, 165), "sysinfo": (99, 179), "times": (100, 153), "getuid": (102, 174), "getgid": (104, 176)},
    **{"geteuid": (107, 175), "getegid": (108, 177), "getppid": (110, 173), "sigaltstack": (131, 132)},
    **{"arch_prctl": (158, None), "setrlimit": (160, 164), "gettid": (186, 178), "time": (201, None)},
    **{"futex": (202, 98), "sched_getaffinity": (204, 123), "getdents64": (217, 61), "set_tid_address": (218, 96)},
    **{"clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "exit_group": (231, 94)},
    **{"openat": (257, 56), "mkdirat": (258, 34), "newfstatat": (262, 79), "unlinkat": (263, 35)},
    **{"renameat": (264, 38), "readlinkat": (267, 78), "faccessat": (269, 48), "pselect6": (270, 72)},
    **{"ppoll": (271, 73), "set_robust_list": (273, 99), "dup3": (292, 24), "pipe2": (293, 59)},
    **{"prlimit64": (302, 261), "renameat2": (316, 276), "getrandom": (318, 278), "statx": (332, 291)},
    **{"rseq": (334, 293), "faccessat2": (439, 439)},
}
_MACHINES = {"x86_64": (0xC000003E, 317, 0), "aarch64": (0xC00000B7, 277, 1)}
"""By machine: AUDIT_ARCH_*, the number of seccomp itself, and the column above."""
_OTHER_NUMBERS = 0x40000000  # x32's calls have numbers from here on, with other meanings

SEALED = frozenset(
    """
    read write close fstat poll lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn pread64 pwrite64
    readv writev sched_yield mremap madvise nanosleep getpid exit fsync gettimeofday sysinfo sigaltstack gettid futex
    clock_gettime clock_nanosleep exit_group sched_getaffinity getrandom rseq ppoll
    """.split()  # noqa: SIM905 -- names read better without the quotes
)
"""Reading and writing what is open, memory, clocks, waiting and the end."""


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


def filter_program(calls: Iterable[str]) -> bytes:
    """What the kernel is given (struct sock_filter, 8 bytes a line): these calls pass, others fail with EPERM.

    Args:
        calls: by name; one that this machine has not is left out.
    Raises:
        OSError: the machine is another one.
    """
    if not can_seal():
        raise OSError(f"calls of {sys.platform} on {platform.machine()} are not known")
    architecture, _, column = _MACHINES[platform.machine()]
    numbers = sorted(number for name in set(calls) if (number := _NUMBERS[name][column]) is not None)
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
    return b"".join(program)


def seal() -> None:
    """Give up every call that is not in `SEALED`, for good.

    Raises:
        OSError: the machine is another one, or the kernel refuses; nothing foreign may be run then.
    """
    program = filter_program(SEALED)
    seccomp = _MACHINES[platform.machine()][1]
    code = ctypes.create_string_buffer(program)
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code)))
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
