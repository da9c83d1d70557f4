"""PyTorch's .bin files, on request alone: read in a sealed process that can hand back tensors, and nothing else.

A .bin file is a pickle: a program of its own that builds objects, which is why torch reads it with a list of what may
be built (`weights_only`). That list has been got round (CVE-2025-32434) and its tensors have lied about their memory
(CVE-2026-24747), so here it is only the first wall. The process around it can open no file, reach no network, start
nothing (guiju.sealing), has a limit on memory, time and what it writes, no environment, and ends with its parent.
What it hands back is a safetensors file without a name, which is checked like any foreign one.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from guiju.errors import ModelError
from guiju.model.weights import CODES, PICKLE, PICKLE_INDEX, Weights, open_all, read_index, stream_weights
from guiju.sealing import can_seal, die_with_parent, limit, seal
from guiju.storage import require_free_space

_MEMORY_BESIDE = 256 << 20  # bytes
_LONGEST_ANSWER = 100_000  # bytes
_SECONDS, _BYTES_PER_SECOND = 60, 10 << 20  # the time that is granted: a little, and more for a larger file
_CHILD = "import sys; sys.path[:] = {path!r}; from guiju.model import pickled; pickled.work({job!r})"


def open_pickled(folder: Path) -> Weights:
    """The weights of pytorch_model.bin, or of the shards that its index names.

    Raises:
        ModelError: there is none, this machine cannot seal a process, or a file is not a plain table of tensors.
        StorageError: there is no room for the copy.
    """
    folder = Path(folder)
    index = folder / PICKLE_INDEX if (folder / PICKLE_INDEX).exists() and not (folder / PICKLE).exists() else None
    paths = [folder / name for name in sorted(set(read_index(index, ".bin").values()))] if index else [folder / PICKLE]
    if not can_seal():
        raise ModelError(
            f"{paths[0]} is a pickle, and this machine is not one where a process that reads it can be sealed (Linux "
            f"on x86_64 or aarch64). Convert it to safetensors on such a one"
        )
    with ExitStack() as held:
        sources = open_all(paths)
        for file in sources.values():
            held.enter_context(file)
        size = sum(os.fstat(file.fileno()).st_size for file in sources.values())
        require_free_space(Path(tempfile.gettempdir()), size, f"a copy of {paths[0].name} without the pickle")
        copies: dict[Path, BinaryIO] = {}
        with ExitStack() as opened:  # files without a name: they are gone when the process is, however it ends
            for path in paths:
                copies[path] = opened.enter_context(tempfile.TemporaryFile())
            _convert(folder, sources, copies)
            opened.pop_all()
    return Weights(folder, copies, index)


def _convert(folder: Path, sources: Mapping[Path, BinaryIO], copies: Mapping[Path, BinaryIO]) -> None:
    """Let a sealed process write the tensors of each source into its copy."""
    sizes = [os.fstat(file.fileno()).st_size for file in sources.values()]
    seconds = _SECONDS + sum(sizes) // _BYTES_PER_SECOND
    job = {
        "parent": os.getpid(),
        "files": [(path.name, sources[path].fileno(), copies[path].fileno()) for path in sources],
        "memory_bytes": 2 * max(sizes) + _MEMORY_BESIDE,
        "seconds": seconds,
    }
    code = _CHILD.format(path=[str(Path(place).absolute()) for place in sys.path if place], job=json.dumps(job))
    handles = tuple(file.fileno() for file in (*sources.values(), *copies.values()))
    # Its environment holds no key, token or proxy of the user that could be taken.
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with tempfile.TemporaryFile() as said:  # a pipe could be flooded; a file has the limit of files
        try:
            done = subprocess.run(  # noqa: S603 -- this very Python
                [sys.executable, "-I", "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.DEVNULL,
                pass_fds=handles,
                env={**kept, **single, "LC_ALL": "C.UTF-8", "CUDA_VISIBLE_DEVICES": ""},
                cwd="/",
                timeout=2 * seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ModelError(f"{folder}: reading its pickle took more than {2 * seconds} s and was stopped") from None
        said.seek(0)
        answer = _answer(said.read(_LONGEST_ANSWER))
    if answer is None:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise ModelError(
            f"{folder}: the process that read its pickle ended with {how} and without an answer: it wanted more "
            f"memory or time than such a file takes, or is damaged. Nothing of it was used"
        )
    if answer:
        raise ModelError(f"{folder}: {answer}. Nothing of it was used")


def _answer(data: bytes) -> str | None:
    """What the sealed process says: nothing where all is well, why not, or None where it did not come so far."""
    try:
        said = json.loads(data.decode())
    except ValueError:
        return None
    problem = said.get("problem", None) if isinstance(said, dict) else None
    return problem[:2000] if isinstance(problem, str) else None


def work(text: str) -> None:
    """In the new process: seal it, read, write, say what came of it."""
    job = json.loads(text)
    problem = ""
    try:
        die_with_parent(job["parent"])
        _warm_up()
        files = [(name, open(source, "rb"), open(copy, "wb")) for name, source, copy in job["files"]]  # noqa: SIM115, PTH123
        sizes = [os.fstat(source.fileno()).st_size for _, source, _ in files]
        limit(job["memory_bytes"], 2 * max(sizes) + (1 << 20), job["seconds"])
        seal()
    except OSError as reason:
        problem = f"its pickle is not read, because the process for it cannot be sealed here ({reason})"
    if not problem:
        problems = (_copy(*file, size) for file, size in zip(files, sizes, strict=True))
        problem = next(filter(None, problems), "")
    sys.stdout.write(json.dumps({"problem": problem}))
    sys.stdout.flush()
    os._exit(0)  # nothing that a pickle left behind gets another turn


def _copy(name: str, source: BinaryIO, copy: BinaryIO, size: int) -> str:
    """Write the tensors of an open pickle as safetensors; returns what is wrong with it."""
    try:
        found = torch.load(source, map_location="cpu", weights_only=True)
        _require_table(found, size)
        stream_weights(copy, {key: tensor.detach() for key, tensor in found.items()})
        copy.flush()
    except MemoryError:
        return f"{name} wants more memory than a file of {size} bytes may"
    except BaseException as reason:  # whatever a pickle can raise
        return f"{name} is no table of tensors that can be read: {_in_short(reason)}"
    return ""


def _in_short(reason: BaseException) -> str:
    """Of torch's long messages the part that says what is wrong, without its advice to be less careful."""
    text = re.sub(r"\x1b\[\d*m", "", str(reason)).partition("Please use `torch.serialization")[0]
    _, found, after = text.partition("WeightsUnpickler error: ")
    if found or text.startswith("Weights only load failed"):
        named = re.search(r"[^\n]*\bGLOBAL\b[^\n]*", text)
        text = named[0] if named else after.partition("Check the documentation")[0]
    return " ".join(text.replace("WeightsUnpickler error:", "").split())[:300].rstrip(".") or type(reason).__name__


def _require_table(found: object, size: int) -> None:
    if not isinstance(found, dict) or not found:
        raise ModelError(f"it holds {type(found).__name__}, not tensors by name")
    total = 0
    for key, value in found.items():
        if type(key) is not str:
            raise ModelError(f"the key {str(key)[:100]!r} is no name")
        if type(value) not in (Tensor, torch.nn.Parameter):
            raise ModelError(f"{key[:100]} is {type(value).__name__}, not a tensor")
        if value.layout is not torch.strided or value.device.type != "cpu" or value.dtype not in CODES:
            raise ModelError(f"tensor {key[:100]} is {value.layout}, {value.dtype} on {value.device.type}")
        total += value.numel() * value.element_size()
        if total > 2 * size:  # twice: weights that are tied are written twice
            raise ModelError(f"its tensors take more than {total} bytes, but the file has {size}")


def _warm_up() -> None:
    """Read one of each kind, so that all code is loaded before no file can be opened any more."""
    torch.set_num_threads(1)
    for newer in (True, False):
        memory = io.BytesIO()
        state: dict[str, Any] = {"a": torch.nn.Parameter(torch.ones(2)), "b": torch.ones(2).half()}
        torch.save(state, memory, _use_new_zipfile_serialization=newer)
        memory.seek(0)
        read = torch.load(memory, map_location="cpu", weights_only=True)
        stream_weights(io.BytesIO(), {key: tensor.detach() for key, tensor in read.items()})
