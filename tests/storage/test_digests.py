from __future__ import annotations

import hashlib
import os
import shutil
import subprocess

import pytest

from guiju.errors import StorageError
from guiju.storage import RESERVE_BYTES, folder_digests, require_free_space, sha256_bytes, sha256_file, sha256_folder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "f/b").mkdir(parents=True)
    (tmp_path / "f/b/规").write_bytes(b"one")
    (tmp_path / "f/a").write_bytes(b"")
    (tmp_path / "f/a.b").write_bytes(b"x" * (3 << 20))
    return tmp_path / "f"


def test_digests_are_those_of_the_system(folder):
    for path in ("b/规", "a", "a.b"):
        printed = subprocess.run(["sha256sum", folder / path], capture_output=True, text=True, check=True).stdout
        assert (
            sha256_file(folder / path) == sha256_bytes((folder / path).read_bytes()) == printed.split()[0].lstrip("\\")
        )


def test_a_folder_is_listed_whole_and_in_order(folder):
    found = folder_digests(folder)
    assert list(found) == sorted(["b/规", "a", "a.b"])
    lines = "".join(f"{path}\0{sha256_file(folder / path)}\n" for path in sorted(found))
    assert sha256_folder(folder) == hashlib.sha256(lines.encode()).hexdigest()


def test_any_change_of_name_content_or_place_changes_the_folders_digest(folder, tmp_path):
    seen = {sha256_folder(folder)}

    def look(count: int) -> None:
        seen.add(sha256_folder(folder))
        assert len(seen) == count

    (folder / "a").write_bytes(b"1")
    look(2)
    (folder / "a").rename(folder / "c")
    look(3)
    (folder / "c").rename(folder / "b/c")
    look(4)
    (folder / "d").write_bytes(b"")
    look(5)
    shutil.copytree(folder, tmp_path / "copy")
    assert sha256_folder(tmp_path / "copy") in seen


@pytest.mark.parametrize("make", [lambda p: p.symlink_to("a"), lambda p: p.symlink_to("."), lambda p: os.mkfifo(p)])
def test_links_and_special_files_have_no_digest(folder, make):
    make(folder / "odd")
    with pytest.raises(StorageError, match="link or special file"):
        folder_digests(folder)


def test_what_is_missing_is_a_clear_error(tmp_path):
    with pytest.raises(StorageError, match="cannot be read"):
        sha256_file(tmp_path / "nothing")
    with pytest.raises(StorageError, match="is no folder"):
        folder_digests(tmp_path / "nothing")


def test_too_little_space_is_said_before_the_work_begins(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    require_free_space(tmp_path / "not/yet/there", 1000, "the stage corpus")
    with pytest.raises(StorageError, match=r"the stage corpus needs about .* MiB .*only .* MiB are free; make room"):
        require_free_space(tmp_path / "not/yet/there", free, "the stage corpus")
    assert RESERVE_BYTES >= 16 << 20
