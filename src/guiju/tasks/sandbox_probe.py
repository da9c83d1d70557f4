"""A program that tries, from inside of the sandbox, what must fail there. It prints the names of what did fail."""

from __future__ import annotations

TRIES = {
    "read a file of this machine": "open(victim).read()",
    "change a file of this machine": "open(victim, 'a').write('x')",
    "write beside its own folder": "open('/written', 'w')",
    "change its standard library": "open(os.__file__, 'ab')",
    "see the processes of this machine": "os.listdir('/proc') or missing()",
    "stand among the processes of this machine": "os.getpid() < 10 and missing()",
    "see the environment": "set(os.environ) <= {*names, 'PWD', 'LC_CTYPE'} and missing()",
    "open a socket": "socket.socket()",
    "open a Unix socket": "socket.socket(socket.AF_UNIX)",
    "start a process": "os.fork() or os._exit(0)",
    "signal a process": "os.kill(os.getppid(), 0)",
    "be somebody": "os.getuid() == 65534 and missing()",
    "use a privilege": "os.chroot('/')",
    "make a name space": "call('unshare', 0x10000000)",
    "trace a process": "call('ptrace', 0x4206, 1, 0, 0)",
    "mount": "call('mount', b'none', b'/tmp', b'tmpfs', 0, None)",
}
"""What must fail, in words, and the try."""

PROBE = f"""
import ctypes, json, os, socket
told = json.loads(input())
victim, names = told["victim"], told["names"]
library = ctypes.CDLL(None, use_errno=True)
def call(name, *values):
    if getattr(library, name)(*values) < 0:
        raise OSError(ctypes.get_errno(), name)
def missing():
    raise OSError("as it should be")
failed = []
for name, line in {TRIES!r}.items():
    try:
        exec(line)
    except OSError:
        failed.append(name)
print(json.dumps(failed))
"""
