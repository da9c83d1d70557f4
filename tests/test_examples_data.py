"""What ships under examples/data is small, licensed, described, and unchanged."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

DATA = Path(__file__).parents[1] / "examples" / "data"
FOLDERS = sorted(folder for folder in DATA.iterdir() if folder.is_dir())
MAX_BYTES = 15_000_000


def data_files() -> dict[str, Path]:
    described = {"README.md", "SHA256SUMS", "LICENSE.txt"}
    files = (path for path in DATA.rglob("*") if path.is_file() and path.name not in described)
    return {path.relative_to(DATA).as_posix(): path for path in files}


def test_examples_data_stays_within_fifteen_megabytes():
    assert 0 < sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) <= MAX_BYTES


def test_every_folder_of_examples_data_holds_its_licence_and_a_row_in_the_table():
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    assert FOLDERS
    for folder in FOLDERS:
        licence = (folder / "LICENSE.txt").read_text(encoding="utf-8")
        assert len(licence) > 300, folder.name
        assert f"\n| {folder.name} | " in readme


def test_sha256sums_names_every_data_file_and_every_digest_matches():
    lines = (DATA / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    listed = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    actual = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in data_files().items()}
    assert listed == actual


def test_every_text_file_is_utf8_and_no_set_that_may_only_be_measured_ships():
    only_measured = {"multi30k", "sst2", "chnsenticorp", "novels-zh", "advbench", "harmbench", "cold-zh", "bbq"}
    assert not only_measured & {folder.name for folder in FOLDERS}
    for name, path in data_files().items():
        if path.suffix != ".bin":
            raw = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
            assert raw.decode("utf-8").strip(), name
