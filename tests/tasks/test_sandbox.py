from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest

from guiju.errors import SandboxError
from guiju.tasks import sandbox, sandbox_walls
from guiju.tasks.sandbox import Limits, require_sandbox, run_program
from guiju.tasks.sandbox_probe import TRIES

pytestmark = pytest.mark.skipif(
    shutil.which("bwrap") is None and "GUIJU_EXTRAS" not in os.environ,
    reason="needs bubblewrap: apt install bubblewrap",
)
ESCAPES = {path.stem: path for path in sorted(Path(__file__).with_name("escapes").glob("*.py"))}
EXHAUSTIONS = [name for name in ESCAPES if name.startswith("exhaust")]
SHORT = Limits(wall_s=1, cpu_s=2)
REPOSITORY = Path(__file__).parents[2]


class Outside:
    """What is on this machine that a program must not reach, and whether it is still as it was."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secret = folder / "secret"
        self.secret.write_text("xyzzy")
        self.port = socket.create_server(("127.0.0.1", 0))
        self.datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.datagrams.bind(self.port.getsockname())
        self.by_file, self.by_name = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        self.abstract = f"guiju-{os.getpid()}"
        self.by_file.bind(str(folder / "socket"))
        self.by_name.bind(f"\0{self.abstract}")
        self.sockets = [self.port, self.datagrams, self.by_file, self.by_name]
        for each in self.sockets:
            each.setblocking(False)
        for each in (self.by_file, self.by_name):
            each.listen()
        self.files = sorted(folder.iterdir())

    def told(self) -> str:
        return json.dumps(
            {
                "secret": str(self.secret),
                "folder": str(self.folder),
                "home": str(Path.home()),
                "repository": str(REPOSITORY),
                "port": self.port.getsockname()[1],
                "pid": os.getpid(),
                "unix": str(self.folder / "socket"),
                "abstract": self.abstract,
            }
        )

    def is_unharmed(self) -> bool:
        assert self.secret.read_text() == "xyzzy"
        assert sorted(self.folder.iterdir()) == self.files
        for each in (self.port, self.by_file, self.by_name):
            with pytest.raises(BlockingIOError):
                each.accept()
        with pytest.raises(BlockingIOError):
            self.datagrams.recv(1)
        return True


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """Also makes this process the one that orphans come to, so that none can hide."""
    require_sandbox()
    prctl = ctypes.CDLL(None).prctl
    made = Outside(tmp_path_factory.mktemp("outside"))
    prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GUIJU_SECRET", "xyzzy")
        yield made
    prctl(36, 0, 0, 0, 0)
    for each in made.sockets:
        each.close()


def survivors(patience_s: float = 3.0) -> list[psutil.Process]:
    """Bubblewraps and what they started that are still there, below this process."""
    end = time.monotonic() + patience_s
    while True:
        found = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, ChildProcessError):
                if process.status() == psutil.STATUS_ZOMBIE:
                    os.waitpid(process.pid, os.WNOHANG)
                elif process.name() in ("bwrap", "python3"):
                    found.append(process)
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.01)


def test_there_are_eighty_attempts_to_escape_and_forty_to_exhaust():
    assert len(EXHAUSTIONS) >= 40
    assert len(ESCAPES) - len(EXHAUSTIONS) >= 80


@pytest.mark.parametrize("name", ESCAPES)
def test_no_escape_succeeds(name, outside):
    source = ESCAPES[name].read_text()
    for _ in range(2 if name.startswith("leave") else 1):
        found = run_program(source, SHORT, outside.told())
    assert "escaped" not in found.stdout, found
    assert "xyzzy" not in found.stdout + found.stderr.replace(str(outside.told()), "")
    assert found.seconds < SHORT.wall_s + 2
    assert len(found.stdout) <= SHORT.output_bytes
    assert survivors() == []
    assert outside.is_unharmed()


def test_the_next_program_is_as_free_as_the_first_after_all_that(outside):
    for name in [name for name in EXHAUSTIONS if name.startswith("exhaust_memory")][:3]:
        run_program(ESCAPES[name].read_text(), Limits(wall_s=0.5))
    assert run_program("open('/tmp/x', 'w').write('x' * 10**6); print(len(bytearray(10**8)))").stdout == "100000000\n"


@pytest.fixture
def break_wall(monkeypatch):
    """Takes a wall away; its second argument is what the program then sees where it sees something of this machine."""
    command = sandbox_walls.command

    def take(wall, folder):
        without = BROKEN[wall][0]
        changed = lambda *given, **named: without(command(*given, **named), str(folder))  # noqa: E731
        monkeypatch.setattr(sandbox_walls, "command", changed)

    return take


def drop(words, *without, pairs=()):
    """A command line without some of its words, and without those of `pairs` and the word behind each."""
    kept, index = [], 0
    while index < len(words):
        if words[index] in pairs:
            index += 2
            continue
        if words[index] not in without:
            kept.append(words[index])
        index += 1
    return kept


@pytest.mark.parametrize(
    "name", ["exhaust_memory_by_doubling", "exhaust_memory_by_shared_maps", "exhaust_memory_and_go_on"]
)
def test_the_memory_of_this_machine_is_used_within_the_limit(name, outside):
    """Seen from outside: what all processes below this one hold."""
    limits, most, ended = Limits(memory_bytes=256 << 20, wall_s=3), 0, threading.Event()
    before = set(psutil.Process().children(recursive=True))  # of tests before this one

    def look():
        nonlocal most
        while not ended.is_set():
            held = 0
            for process in set(psutil.Process().children(recursive=True)) - before:
                with contextlib.suppress(psutil.Error):
                    held += process.memory_info().rss
            most = max(most, held)
            time.sleep(0.005)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        run_program(ESCAPES[name].read_text(), limits, outside.told())
    finally:
        ended.set()
        looking.join()
    assert most < 1.1 * limits.memory_bytes


def show(words, folder):
    """A command line with a folder of this machine in the root, to be written."""
    place = words.index("--chdir")
    return [*words[:place], "--bind", folder, folder, *words[place:]]


NO_FILTER = {"pairs": ("--seccomp",)}
BROKEN = {
    "a filter of calls": (
        lambda words, _: drop(words, **NO_FILTER),
        ["fork", "start_a_thread", "make_a_name_space_of_users", "trace_itself", "make_a_pair_of_sockets"],
    ),
    "a network of its own": (
        lambda words, _: drop(words, "--unshare-net", **NO_FILTER),
        ["connect_to_a_port_of_this_machine", "connect_to_a_socket_without_a_file", "send_a_datagram_to_this_machine"],
    ),
    "processes of its own": (
        lambda words, _: drop(words, "--unshare-pid", **NO_FILTER),
        ["signal_the_parent", "signal_the_parent_by_a_handle"],
    ),
    "a root of its own": (
        lambda words, folder: show(words, folder),
        ["read_a_secret_outside", "list_the_folder_of_temporary_files", "write_a_file_outside"],
    ),
    "a root that cannot be written": (
        lambda words, _: drop(words, pairs=("--remount-ro",)),
        ["write_to_the_root", "make_a_folder_in_the_root", "plant_a_pth_file"],
    ),
}


@pytest.mark.parametrize("wall", BROKEN)
def test_without_one_wall_escapes_succeed_and_are_noticed(wall, outside, break_wall):
    """The attempts are real: what stops them is the wall that is taken away here."""
    break_wall(wall, outside.folder)
    try:
        for name in BROKEN[wall][1]:
            found = sandbox._run(ESCAPES[name].read_text(), Limits(), outside.told())
            assert "escaped" in found.stdout, (name, found)
    finally:
        outside.secret.write_text("xyzzy")
        (outside.folder / "planted").unlink(missing_ok=True)
        for each in (outside.port, outside.by_name):
            with contextlib.suppress(BlockingIOError):
                each.accept()[0].close()
        with contextlib.suppress(BlockingIOError):
            outside.datagrams.recv(9)
    assert survivors() == []


@pytest.mark.parametrize(
    "name",
    [
        "connect_to_a_port_of_this_machine",
        "connect_to_a_socket_without_a_file",
        "signal_the_parent_by_a_handle",
        "mount_a_file_system",
        "change_the_root",
        "become_root",
        "name_the_machine",
        "make_a_device",
    ],
)
def test_without_the_filter_of_calls_the_other_walls_still_hold(name, outside, break_wall):
    break_wall("a filter of calls", outside.folder)
    assert "escaped" not in sandbox._run(ESCAPES[name].read_text(), Limits(), outside.told()).stdout
    assert outside.is_unharmed()


def test_without_their_limits_exhaustions_succeed_and_are_noticed(outside):
    for name, limits in {
        "exhaust_handles": Limits(open_files=2000),
        "exhaust_the_disk_by_a_file_with_holes": Limits(scratch_bytes=1 << 41),
    }.items():
        assert "escaped" in run_program(ESCAPES[name].read_text(), limits, outside.told()).stdout


@pytest.mark.parametrize("wall", ["a filter of calls", "a root of its own", "a root that cannot be written"])
def test_the_probe_notices_that_a_wall_is_missing(wall, tmp_path, break_wall, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    break_wall(wall, tmp_path)
    require_sandbox.cache_clear()
    with pytest.raises(SandboxError, match="does not hold on this machine"):
        run_program("print(1)")
    monkeypatch.undo()
    assert run_program("print(1)").stdout == "1\n"


def test_the_probe_tries_sixteen_things():
    assert len(TRIES) >= 16


def test_without_bubblewrap_nothing_is_run(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    require_sandbox.cache_clear()
    with pytest.raises(SandboxError, match="apt install bubblewrap"):
        run_program("print(1)")
    monkeypatch.undo()
    require_sandbox()


def test_where_the_kernel_denies_name_spaces_nothing_is_run():
    """In a process that may make no name space of users, as in a container without the right to."""
    if os.getuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root can take the right to make name spaces away here, with unshare of util-linux")
    code = (
        "from pathlib import Path\nPath('/proc/sys/user/max_user_namespaces').write_text('0')\n"
        "from guiju.tasks.sandbox import run_program\n"
        "from guiju.errors import SandboxError\n"
        "try:\n    run_program('print(1)')\nexcept SandboxError as problem:\n    print('refused:', problem)\n"
    )
    # The number is one of the name space of users: within a new one it binds that one alone.
    words = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    if "Permission denied" in done.stderr or "Read-only" in done.stderr:
        pytest.skip("this machine does not let a name space limit itself")
    assert done.stdout.startswith("refused: generated programs are not run"), done
    assert "user namespaces" in done.stdout


def test_a_program_has_input_output_and_a_place_of_its_own():
    found = run_program(
        "import os, sys\nopen('a', 'w').write(input())\nprint(open('/tmp/a').read(), os.getcwd(), __name__)\n"
        "print('bad', file=sys.stderr)\nsys.exit(3)",
        stdin="hello\n",
    )
    assert (found.status, found.code, found.stdout, found.stderr) == ("failed", 3, "hello /tmp __main__\n", "bad\n")


def test_the_standard_library_is_there():
    names = "json re math random collections itertools functools hashlib sqlite3 decimal ctypes bz2 lzma zlib datetime"
    found = run_program(f"import {names.replace(' ', ', ')}\nprint(hashlib.md5(b'').hexdigest(), random.random() < 1)")
    assert found.stdout == "d41d8cd98f00b204e9800998ecf8427e True\n", found


@pytest.mark.parametrize(
    ("source", "status", "code"),
    [
        ("print(1)", "ended", 0),
        ("raise SystemExit(7)", "failed", 7),
        ("1/0", "failed", 1),
        ("x = = 1", "failed", 1),
        ("import os; os.abort()", "killed", None),
        ("while True: pass", "timeout", -1),
        ("while True: print(1)", "flooded", -1),
    ],
)
def test_what_became_of_a_program_is_told(source, status, code):
    found = run_program(source, SHORT if status == "timeout" else Limits())
    assert found.status == status
    assert code is None or found.code == code


def test_a_program_ends_with_the_process_that_started_it():
    code = "from guiju.tasks.sandbox import run_program\nrun_program('import time; time.sleep(99)')"
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        end = time.monotonic() + 20
        inside = []
        while not inside and time.monotonic() < end:  # bubblewrap, its first process inside, and Python
            inside = psutil.Process(parent.pid).children(recursive=True)
            inside = inside if len(inside) >= 3 else []
            time.sleep(0.02)
        assert inside
    finally:
        parent.kill()
        parent.wait()
    assert psutil.wait_procs(inside, timeout=5)[1] == []
