"""Saves a file and a folder again and again, as `python saver.py FOLDER TIMES`; exit code 2 for a clear error."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from guiju.errors import StorageError
from guiju.storage import folder_atomic, write_bytes


def save(folder: Path, version: bytes) -> None:
    write_bytes(folder / "file", version * 5000)
    with folder_atomic(folder / "save") as place:
        (place / "a").write_bytes(version * 3000)
        (place / "b").mkdir()
        (place / "b/c").write_bytes(version * 10)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(exist_ok=True)
    refused = False
    os.writev(1, [b"x"])
    for number in range(int(sys.argv[2])):
        try:
            save(target, b"%d" % ((os.getpid() + number) % 10))
        except StorageError:
            refused = True
    os._exit(2 if refused else 0)
