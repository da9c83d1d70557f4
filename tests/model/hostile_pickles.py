"""Files that call themselves pytorch_model.bin, each with another way to be no table of tensors.

Those of RUNS do something when Python's own pickle reads them: they write the canary.
"""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

STORAGE = b"ctorch\nFloatStorage\n"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"


def _text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _number(value: int) -> bytes:
    data = value.to_bytes(9, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def _numbers(*values: int) -> bytes:
    return b"(" + b"".join(map(_number, values)) + b"t"


def _tensor(numel: int, offset: int, size: tuple[int, ...], stride: tuple[int, ...], key: str = "0") -> bytes:
    """The opcodes that build a tensor over storage `key`, which they say has `numel` numbers."""
    storage = b"((" + _text("storage") + STORAGE + _text(key) + _text("cpu") + _number(numel) + b"tQ"
    hooks = b"ccollections\nOrderedDict\n)R"
    return TENSOR + storage + _number(offset) + _numbers(*size) + _numbers(*stride) + b"\x89" + hooks + b"tR"


def _table(value: bytes, key: bytes = _text("wte.weight")) -> bytes:
    return b"\x80\x02}(" + key + value + b"u."


def _zip(program: bytes, storage: bytes = b"\0" * 16, **options: int) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", **options) as file:
        for name, data in {"data.pkl": program, "version": b"3\n", "byteorder": b"little", "data/0": storage}.items():
            file.writestr(f"archive/{name}", data)
    return memory.getvalue()


def _torch(value: object, *, newer: bool = True) -> bytes:
    memory = io.BytesIO()
    torch.save(value, memory, _use_new_zipfile_serialization=newer)
    return memory.getvalue()


def _legacy(numel: int) -> bytes:
    """The layout before torch 1.6, with a storage that says it has `numel` numbers."""
    storage = b"(" + _text("storage") + STORAGE + _text("7") + _text("cpu") + _number(numel) + b"NtQ"
    whole = (
        TENSOR + b"(" + storage + _number(0) + _numbers(numel) + _numbers(1) + b"\x89ccollections\nOrderedDict\n)RtR"
    )
    head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}]
    keys = pickle.dumps(["7"], 2)
    parts = [pickle.dumps(part, 2) for part in head]
    return b"".join(parts) + _table(whole) + keys + struct.pack("<q", numel) + b"\0" * 16


class _Call:
    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def runs(canary: Path) -> dict[str, bytes]:
    """Those that write the canary where plain pickle reads them."""
    import os

    command = f"touch {canary}"
    write = f"open({str(canary)!r}, 'w')"
    chain = b"cbuiltins\neval\n(" + _text(write) + b"tR"
    reduced = {
        "a shell": _Call(os.system, command),
        "eval": _Call(eval, write),
        "exec": _Call(exec, write),
        "open": _Call(open, str(canary), "w"),
    }
    return {
        **{f"{name}, bare": pickle.dumps(value, 2) for name, value in reduced.items()},
        "a shell, stack global": pickle.dumps(reduced["a shell"], 4),
        "a shell, INST": b"(" + _text(command) + b"iposix\nsystem\n.",
        "a shell, OBJ": b"(cposix\nsystem\n" + _text(command) + b"o.",
        "eval beside a tensor": _table(chain),
        "eval as a name": _table(b"N", chain),
        "eval before a table": b"\x80\x02" + chain + b"0}.",
    }


def zipped(canary: Path) -> dict[str, bytes]:
    """The same in torch's present layout."""
    return {f"{name}, in a zip": _zip(program) for name, program in runs(canary).items()}


def malformed() -> dict[str, Callable[[], bytes]]:
    """Those that lie about sizes, want to be unpacked, or hold something else."""
    deep = b"\x80\x02" + b")" + b"\x85" * 1_000_000 + b"."
    key = b"\x80\x02}" + b")" + b"\x85" * 1_000_000 + b"Ns."
    deflated = zipfile.ZIP_DEFLATED
    return {
        "nothing": lambda: b"",
        "a page of the web": lambda: b"<!DOCTYPE html><html>rate limited</html>",
        "deep": lambda: _zip(deep),
        "deep as a key": lambda: _zip(key),
        "a storage of 2^60 numbers": lambda: _zip(_table(_tensor(1 << 60, 0, (1 << 60,), (1,)))),
        "a storage of 2^40 numbers in 16 bytes": lambda: _zip(_table(_tensor(1 << 40, 0, (1 << 40,), (1,)))),
        "CVE-2026-24747: 100,000 numbers in 16 bytes": lambda: _zip(_table(_tensor(100_000, 0, (100_000,), (1,)))),
        "a storage of -1 numbers": lambda: _zip(_table(_tensor(-1, 0, (4,), (1,)))),
        "a storage elsewhere": lambda: _zip(_table(_tensor(4, 0, (4,), (1,), "../../../../etc/passwd"))),
        "a storage that is not there": lambda: _zip(_table(_tensor(4, 0, (4,), (1,), "9"))),
        "a view past the end": lambda: _zip(_table(_tensor(4, 3, (4,), (1,)))),
        "a view before the beginning": lambda: _zip(_table(_tensor(4, -3, (4,), (1,)))),
        "a view backwards": lambda: _zip(_table(_tensor(4, 3, (4,), (-1,)))),
        "a view of 10^12 times one number": lambda: _zip(_table(_tensor(4, 0, (10**12,), (0,)))),
        "a view whose size overflows": lambda: _zip(_table(_tensor(4, 0, (1 << 40, 1 << 40), (0, 0)))),
        "an old storage of 2^60 numbers": lambda: _legacy(1 << 60),
        "an old storage of 2^30 numbers": lambda: _legacy(1 << 30),
        "a text of 4 GB": lambda: b"\x80\x02X\xff\xff\xff\xffa.",
        "a number of 2 GB": lambda: b"\x80\x02\x8b\xff\xff\xff\x7fa.",
        "a bomb as storage": lambda: _zip(
            _table(_tensor(100 << 20, 0, (100 << 20,), (1,))), _zeros(), compression=deflated
        ),
        "a bomb as program": lambda: _zip(b"\x80\x02" + b"N0" * (100 << 20) + b".", compression=deflated),
        "a tar": lambda: _tar({"storages": b"\x80\x02K\x00.", "tensors": b"\x80\x02K\x00.", "pickle": b"\x80\x02}."}),
        "a tar with a way out": lambda: _tar({"../../storages": b"", "storages": b"x"}),
        "CVE-2025-1716: pip as a callable": lambda: b"\x80\x02cpip\nmain\n(" + _text("install") + b"tR.",
        "CVE-2025-1889: a second pickle beside": lambda: _with_another(_zip(_table(_tensor(9, 0, (9,), (1,))))),
        "CVE-2025-1944: two names of one member": lambda: _renamed(_zip(_SHELL)),
        "CVE-2025-1945: flags that hide a member": lambda: _flagged(_zip(_SHELL)),
        "CVE-2025-10156: a wrong checksum": lambda: _unchecked(_zip(_SHELL)),
        "CVE-2025-10157: a class within a module": lambda: b"\x80\x02casyncio.unix_events\n_Unix\n)R.",
        "a list": lambda: _torch([torch.ones(2)]),
        "an empty table": lambda: _torch({}),
        "a table of numbers": lambda: _torch({"epoch": 3}),
        "a table in a table": lambda: _torch({"model": {"wte.weight": torch.ones(2)}}),
        "numbers as names": lambda: _torch({3: torch.ones(2)}),
        "a sparse tensor": lambda: _torch({"wte.weight": torch.eye(3).to_sparse()}),
        "a tensor without content": lambda: _torch({"wte.weight": torch.ones(2, device="meta")}),
        "a complex tensor": lambda: _torch({"wte.weight": torch.ones(2, dtype=torch.complex64)}),
        "a whole module": lambda: _torch(torch.nn.Linear(2, 2)),
        "a cut-off zip": lambda: _torch({"wte.weight": torch.ones(200)})[:-300],
        "a cut-off old file": lambda: _torch({"wte.weight": torch.ones(200)}, newer=False)[:-300],
        "a name that is no text": lambda: _torch({"wte\x1b[2J.weight": torch.ones(2)}),
    }


_SHELL = b"cposix\nsystem\n(" + _text("true") + b"tR."


def _with_another(data: bytes) -> bytes:
    memory = io.BytesIO(data)
    with zipfile.ZipFile(memory, "a") as file:
        file.writestr("archive/config.p", _SHELL)
    return memory.getvalue()


def _renamed(data: bytes) -> bytes:
    """The name before a member's data is another one than the directory's."""
    return data.replace(b"archive/data.pkl", b"archive/safe.pkl", 1)


def _flagged(data: bytes) -> bytes:
    """The flag of encryption is set before the data, and not in the directory."""
    place = data.index(b"PK\x03\x04") + 6
    return data[:place] + bytes([data[place] | 1]) + data[place + 1 :]


def _unchecked(data: bytes) -> bytes:
    place = data.index(b"PK\x01\x02") + 16
    return data[:place] + b"\0\0\0\0" + data[place + 4 :]


def _zeros() -> bytes:
    return b"\0" * (400 << 20)


def _tar(members: dict[str, bytes]) -> bytes:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as file:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return memory.getvalue()
