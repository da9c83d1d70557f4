from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from guiju.errors import GuijuError, ModelError, StorageError
from guiju.storage import open_foreign, read_foreign, require_plain_folder


def test_a_regular_file_is_read_within_its_bound(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_foreign(tmp_path / "a", 5) == b"12345"
    with pytest.raises(StorageError, match=r"a is 5 bytes long; a file of its kind has at most 4"):
        read_foreign(tmp_path / "a", 4)


def test_a_pipe_without_a_writer_does_not_hold_the_reader(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    began = time.monotonic()
    with pytest.raises(StorageError, match="pipe is a named pipe, not a regular file"):
        open_foreign(tmp_path / "pipe")
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(("path", "message"), [
    ("/dev/zero", "is a device"),
    ("/", "is a folder"),
    ("/nothing/there", "No such file"),
    ("a\0b", "null byte"),
])  # fmt: skip
def test_what_is_no_regular_file_is_named_by_its_kind(path, message):
    with pytest.raises(StorageError, match=message):
        open_foreign(Path(path))


def test_no_descriptor_is_left_open_by_a_refusal(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "long").write_bytes(b"x" * 100)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        for name in ("pipe", "long"):
            with pytest.raises(StorageError):
                open_foreign(tmp_path / name, 10)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "home" / "inner").mkdir(parents=True)
    (tmp_path / "home" / "a.json").write_text("{}")
    (tmp_path / "outside.json").write_text("{}")
    return tmp_path / "home"


def test_plain_files_folders_and_inner_links_are_let_by(folder):
    (folder / "b.json").symlink_to("a.json")
    (folder / "c.json").symlink_to(folder / "inner")
    require_plain_folder(folder)
    (folder.parent / "latest").symlink_to(folder)
    require_plain_folder(folder.parent / "latest")  # the folder itself is the user's to name


@pytest.mark.parametrize("target", ["../outside.json", "/etc/hostname", "inner/../../outside.json", "/dev/null"])
def test_a_link_out_is_refused(target, folder):
    (folder / "b.json").symlink_to(target)
    with pytest.raises(StorageError, match=r"b\.json is a link out of its folder, to /"):
        require_plain_folder(folder)


def test_links_in_a_circle_to_nothing_and_to_pipes_are_refused(folder):
    for name, make, message in (
        ("circle", lambda path: path.symlink_to("circle"), "leads to"),
        ("gone", lambda path: path.symlink_to("nothing"), "leads to nothing that can be read"),
        ("pipe", lambda path: os.mkfifo(path), "is a named pipe"),
        (
            "linked",
            lambda path: (os.mkfifo(folder / "inner" / "p"), path.symlink_to("inner/p")),
            "a link to a named pipe",
        ),
    ):
        make(folder / name)
        with pytest.raises(StorageError, match=message):
            require_plain_folder(folder)
        (folder / name).unlink()
    require_plain_folder(folder)


def test_a_socket_is_refused(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("s")
    with pytest.raises(StorageError, match="s is a socket"):
        require_plain_folder(folder)


def test_the_hugging_face_caches_links_into_its_blobs_are_known(tmp_path):
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / ("8" * 40), tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "x").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/x")
    require_plain_folder(snapshot)
    (tmp_path / "models--c--d" / "blobs").mkdir(parents=True)
    (tmp_path / "models--c--d" / "blobs" / "y").write_text("{}")
    (snapshot / "other.json").symlink_to("../../../models--c--d/blobs/y")
    with pytest.raises(StorageError, match=r"other\.json is a link out of its folder"):
        require_plain_folder(snapshot)


def test_what_a_strangers_file_holds_neither_floods_nor_steers_the_screen():
    assert len(str(ModelError("x" * 10**6))) < 9000
    assert str(ModelError("a\x1b[2Jb\u202ec\ud800 床\u3000。\n")) == "a\\x1b[2Jb\\u202ec\\ud800 床\u3000。\n"
    assert str(GuijuError()) == ""
