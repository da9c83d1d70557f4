from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from guiju.errors import StorageError
from guiju.storage import (
    folder_atomic,
    open_atomic,
    prepare_bytes,
    remove_stale,
    sha256_folder,
    write_bytes,
    write_json,
    write_text,
)

SAVER = Path(__file__).parent / "saver.py"
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="failing calls are injected by strace")


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_what_is_written_is_there_and_nothing_else(tmp_path):
    write_bytes(tmp_path / "a", b"\x00\xff")
    write_text(tmp_path / "b", "规矩\n")
    write_json(tmp_path / "c", {"规": [1, None]})
    with open_atomic(tmp_path / "d") as file:
        file.write(b"one")
        assert not (tmp_path / "d").exists()
        file.write(b"two")
    assert names(tmp_path) == ["a", "b", "c", "d"]
    assert (tmp_path / "a").read_bytes() == b"\x00\xff"
    assert (tmp_path / "b").read_bytes() == "规矩\n".encode()
    assert (tmp_path / "c").read_text(encoding="utf-8") == '{\n "规": [\n  1,\n  null\n ]\n}\n'
    assert (tmp_path / "d").read_bytes() == b"onetwo"


def test_the_mode_is_what_was_asked_for_from_the_first_byte(tmp_path):
    with open_atomic(tmp_path / "secret", mode=0o600) as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600
    write_bytes(tmp_path / "other", b"", mode=0o640)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "other").stat().st_mode) == 0o640


def test_a_block_that_fails_leaves_what_was_there(tmp_path):
    write_bytes(tmp_path / "a", b"old")
    with pytest.raises(ZeroDivisionError), open_atomic(tmp_path / "a") as file:
        file.write(b"%d" % (1 // 0))
    with folder_atomic(tmp_path / "f") as place:
        (place / "x").write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), folder_atomic(tmp_path / "f") as place:
        (place / "x").write_bytes(b"%d" % ((place / "x").write_bytes(b"new") // 0))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "f/x").read_bytes() == b"old"
    assert names(tmp_path) == ["a", "f", "f/x"]


def test_what_is_prepared_and_not_wanted_leaves_nothing(tmp_path):
    prepare_bytes(tmp_path / "a", b"x").discard()
    assert names(tmp_path) == []
    prepare_bytes(tmp_path / "a", b"x").commit(sync=False)
    assert names(tmp_path) == ["a"]


def test_not_a_number_is_never_written_as_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a", float("nan"))
    assert names(tmp_path) == []


def test_a_folder_is_replaced_with_all_that_is_in_it(tmp_path):
    for content in ("one", "two", "three"):
        with folder_atomic(tmp_path / "f") as place:
            (place / "deep/er").mkdir(parents=True)
            (place / "deep/er" / content).write_text(content)
            assert content != "one" or not (tmp_path / "f").exists()
        assert names(tmp_path) == ["f", "f/deep", "f/deep/er", f"f/deep/er/{content}"]


def test_a_folder_is_replaced_also_where_names_cannot_be_exchanged(tmp_path, monkeypatch):
    """As on a file system without RENAME_EXCHANGE: two renames, and the old folder aside between them."""
    monkeypatch.setattr("guiju.storage.atomic._exchange", lambda one, other: False)
    for content in ("one", "two"):
        with folder_atomic(tmp_path / "f") as place:
            (place / content).write_text(content)
    assert names(tmp_path) == ["f", "f/two"]


def test_a_folder_that_must_be_new_does_not_replace_another(tmp_path):
    with folder_atomic(tmp_path / "f", replace=False) as place:
        (place / "x").write_text("first")
    with (
        pytest.raises(StorageError, match="could not be written"),
        folder_atomic(tmp_path / "f", replace=False) as place,
    ):
        (place / "x").write_text("second")
    assert (tmp_path / "f/x").read_text() == "first"
    assert names(tmp_path) == ["f", "f/x"]


def test_the_leftovers_of_a_killed_writer_are_taken_away_and_nothing_else(tmp_path):
    (tmp_path / "sub/.model.partial-1-ab").mkdir(parents=True)
    (tmp_path / "sub/.model.partial-1-ab/weights").write_text("half")
    (tmp_path / ".note.partial-7-cd").write_text("half")
    (tmp_path / ".link.partial-7-cd").symlink_to(tmp_path / "kept")
    for name in ("kept", ".hidden", "a.partial-1", ".partial"):
        (tmp_path / name).write_text("kept")
    removed = remove_stale(tmp_path)
    assert set(removed) >= {".note.partial-7-cd", ".link.partial-7-cd", "sub/.model.partial-1-ab"}
    assert names(tmp_path) == [".hidden", ".partial", "a.partial-1", "kept", "sub"]


def test_a_folder_put_aside_by_a_killed_writer_comes_back_if_nothing_took_its_place(tmp_path):
    for name, taken in (("model", False), ("tasks", True)):
        (tmp_path / f".{name}.replaced-1-ab").mkdir()
        (tmp_path / f".{name}.replaced-1-ab/x").write_text("old")
        if taken:
            (tmp_path / name).mkdir()
            (tmp_path / name / "x").write_text("new")
    remove_stale(tmp_path)
    assert names(tmp_path) == ["model", "model/x", "tasks", "tasks/x"]
    assert (tmp_path / "model/x").read_text() == "old"
    assert (tmp_path / "tasks/x").read_text() == "new"


def test_very_long_names_can_be_written(tmp_path):
    write_bytes(tmp_path / ("x" * 255), b"1")
    write_bytes(tmp_path / ("规" * 80), b"2")
    assert len(names(tmp_path)) == 2


@pytest.mark.parametrize("place", ["missing/a", "file/a"])
def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"could not be written.*see that the folder exists"):
        write_bytes(tmp_path / place, b"x")
    assert names(tmp_path) == ["file"]


def test_a_write_that_is_cut_in_the_middle_leaves_what_was_there(tmp_path):
    """The kernel's limit on the size of files, met in the middle of the data."""
    write_bytes(tmp_path / "a", b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(StorageError, match="larger than allowed"):
            write_bytes(tmp_path / "a", b"x" * 20_000)
        with pytest.raises(StorageError, match="larger than allowed"), folder_atomic(tmp_path / "f") as place:
            (place / "x").write_bytes(b"x" * 20_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.fixture
def small_disk():
    """A real file system of 1 MiB."""
    place = Path(tempfile.mkdtemp(prefix="guiju-disk-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        place.rmdir()
        pytest.skip("mounting a small tmpfs needs root: " + mounted.stderr.decode().strip())
    yield place
    subprocess.run(["umount", str(place)], check=True)
    place.rmdir()


def test_a_full_disk_leaves_what_was_there_and_says_so(small_disk):
    write_bytes(small_disk / "a", b"o" * 400_000)
    with folder_atomic(small_disk / "f") as place:
        (place / "x").write_bytes(b"o" * 200_000)
    for _ in range(3):
        with pytest.raises(StorageError, match=r"a could not be written: the disk is full.*make room"):
            write_bytes(small_disk / "a", b"n" * 900_000)
        with pytest.raises(StorageError, match="the disk is full"), folder_atomic(small_disk / "f") as place:
            (place / "x").write_bytes(b"n" * 900_000)
        with pytest.raises(StorageError, match="the disk is full"), open_atomic(small_disk / "b") as file:
            file.writelines(b"n" * 10_000 for _ in range(100))
    assert names(small_disk) == ["a", "f", "f/x"]
    assert (small_disk / "a").read_bytes() == b"o" * 400_000
    assert (small_disk / "f/x").read_bytes() == b"o" * 200_000


# ---- killed and hindered


def whole(folder: Path) -> None:
    """Whatever happened: each of the two is one whole version, and no half-written name is to be seen."""
    content = (folder / "file").read_bytes()
    assert content == content[:1] * 5000
    version = (folder / "save/a").read_bytes()[:1]
    assert [(folder / "save" / name).read_bytes() for name in ("a", "b/c")] == [version * 3000, version * 10]
    remove_stale(folder)
    assert names(folder) == ["file", "save", "save/a", "save/b", "save/b/c"]


def prepared(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, str(SAVER), str(folder), "1"], check=True)
    return folder


def test_a_saver_that_is_killed_at_random_leaves_a_whole_version(tmp_path):
    draw = random.Random(0)
    folder = prepared(tmp_path / "saves")
    for _ in range(12):
        process = subprocess.Popen([sys.executable, str(SAVER), str(folder), "1000000"], stdout=subprocess.PIPE)
        process.stdout.read(1)
        time.sleep(draw.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        whole(folder)


@needs_strace
@pytest.mark.parametrize("call", ["write", "fsync", "rename", "renameat2", "mkdir"])
def test_a_saver_whose_calls_fail_or_kill_it_leaves_a_whole_version(tmp_path, call):
    """Every call of that name below the folder, one after the other: it fails, or is the last thing that happens."""
    folder, met = prepared(tmp_path / "saves"), 0
    for when in range(1, 8 if call == "write" else 5):
        for inject in (f"error=ENOSPC:when={when}", f"error=EIO:when={when}", f"signal=KILL:when={when}"):
            strace = ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:{inject}"]
            command = [*strace, sys.executable, str(SAVER), str(folder), "2"]
            done = subprocess.run(command, capture_output=True, check=False)
            assert done.returncode in (0, 2, -signal.SIGKILL)
            met += done.returncode == 2
            whole(folder)
    assert met > 0


def test_the_error_number_is_explained_and_the_cause_kept(tmp_path, monkeypatch):
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="disk is full") as caught:
        write_bytes(tmp_path / "a", b"x")
    assert isinstance(caught.value.__cause__, OSError)
    assert names(tmp_path) == []


def test_two_savers_at_once_leave_one_of_their_versions(tmp_path):
    folder = prepared(tmp_path / "saves")
    command = [sys.executable, str(SAVER), str(folder), "30"]
    savers = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    for saver in savers:
        saver.wait()
    digest = sha256_folder(folder / "save")
    assert digest
    whole(folder)
