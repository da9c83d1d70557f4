"""Model folders that want something else than to be a model: each differs from a good one in one way.

`CASES` are the ones told apart by hand; `more_cases` adds every field of a config with every value that it may not
have, and damages drawn by chance. A case either must be refused, by a message that names what is wrong, or holds
something that must not matter (then it must load as the good one does). Nothing in it may run, and nothing may be
written. Those named after an advisory are what it was about.
"""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import random
import re
import shutil
import socket
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from guiju.model import bert_config, build_model, gpt2_config, llama_config, save_model, t5_config
from guiju.tokens import TokenizerSettings, train_tokenizer

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
TOKENIZER, SETTINGS, GENERATION = "tokenizer.json", "tokenizer_config.json", "generation_config.json"
UNHARMED = None
"""In place of a message: the folder loads, and what is hostile in it is of no effect."""


@dataclass(frozen=True)
class Place:
    """Where a case is made."""

    folder: Path
    outside: Path
    """A folder that is none of the model's, with a file in it."""
    canary: Path
    """What a payload would make."""

    def payload(self) -> str:
        """Python that shows that it ran."""
        return f"open({str(self.canary)!r}, 'w').write('ran')"


@dataclass(frozen=True)
class Case:
    base: str
    change: Callable[[Place], object]
    message: str | None
    """What the refusal must say (a regular expression); UNHARMED where the folder loads."""
    most_bytes: int = 96 << 20
    """By how much the process may grow."""


def make_bases(place: Path) -> dict[str, Path]:
    """The good folders, one of each kind."""
    text = "床前明月光，疑是地上霜。举头望明月，低头思故乡。 Once upon a time there was a little dog. " * 20
    tokenizer = train_tokenizer([text], TokenizerSettings(vocab_size=300))
    sizes = {"vocab_size": 300, "width": 16, "layers": 2, "heads": 2}
    configs = {
        "gpt2": gpt2_config(**sizes, context=32),
        "llama": llama_config(**sizes, context=32, hidden=32),
        "bert": bert_config(**sizes, context=32),
        "t5": t5_config(**sizes, head_width=8, hidden=32, start_id=0, pad_id=0),
    }
    folders = {}
    for name, config in configs.items():
        torch.manual_seed(0)
        folders[name] = place / name
        save_model(build_model(config).eval(), folders[name], tokenizer)
        for file in (
            "vocab.json",
            "merges.txt",
        ):  # tokenizer.json is to be the only one, so that without it there is none
            (folders[name] / file).unlink(missing_ok=True)
    folders["sharded"] = _sharded(folders["llama"], place / "sharded")
    folders["run"] = place / "run"
    shutil.copytree(folders["gpt2"], folders["run"] / "model")
    (folders["run"] / "recipe.yaml").write_text("name: run\n")
    return folders


def _sharded(source: Path, folder: Path) -> Path:
    shutil.copytree(source, folder)
    tensors = safetensors.torch.load_file(folder / WEIGHTS)
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[:7], "model-00002-of-00002.safetensors": names[7:]}
    for shard, held in shards.items():
        safetensors.torch.save_file({name: tensors[name] for name in held}, folder / shard)
    places = {name: shard for shard, held in shards.items() for name in held}
    (folder / INDEX).write_text(json.dumps({"weight_map": places}))
    (folder / WEIGHTS).unlink()
    return folder


# Ways to change a folder.


def _json(file: str, **fields: Any) -> Callable[[Place], object]:
    """Set fields of a JSON file."""

    def change(place: Place) -> None:
        path = place.folder / file
        data = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**data, **fields}))

    return change


def _raw(file: str, old: str, new: str) -> Callable[[Place], object]:
    """Replace text within a file."""

    def change(place: Place) -> None:
        path = place.folder / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def _bytes(file: str, data: bytes) -> Callable[[Place], object]:
    return lambda place: (place.folder / file).write_bytes(data)


def _made(file: str, make: Callable[[Place], bytes]) -> Callable[[Place], object]:
    return lambda place: (place.folder / file).write_bytes(make(place))


def _link(file: str, target: Callable[[Place], str]) -> Callable[[Place], object]:
    def change(place: Place) -> None:
        path = place.folder / file
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(target(place))

    return change


def _pipe(file: str) -> Callable[[Place], object]:
    def change(place: Place) -> None:
        (place.folder / file).unlink(missing_ok=True)
        os.mkfifo(place.folder / file)

    return change


def _socket(file: str) -> Callable[[Place], object]:
    def change(place: Place) -> None:
        (place.folder / file).unlink(missing_ok=True)
        before = Path.cwd()
        os.chdir(place.folder)  # a socket's whole path may have 107 bytes
        try:
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(file)
        finally:
            os.chdir(before)

    return change


def _folder(file: str) -> Callable[[Place], object]:
    def change(place: Place) -> None:
        (place.folder / file).unlink(missing_ok=True)
        (place.folder / file).mkdir()

    return change


def _gone(*files: str) -> Callable[[Place], object]:
    return lambda place: [(place.folder / file).unlink() for file in files]


def _tensors(edit: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Place], object]:
    def change(place: Place) -> None:
        tensors = safetensors.torch.load_file(place.folder / WEIGHTS)
        edit(tensors)
        safetensors.torch.save_file(tensors, place.folder / WEIGHTS)

    return change


def _header(edit: Callable[[dict[str, Any]], object], length: int | None = None) -> Callable[[Place], object]:
    """Change the header of the weights, and leave the data."""

    def change(place: Place) -> None:
        path = place.folder / WEIGHTS
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        edit(header)
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data[8 + size :])

    return change


def _index(**places: str) -> Callable[[Place], object]:
    """Let the index say where tensors are."""

    def change(place: Place) -> None:
        path = place.folder / INDEX
        data = json.loads(path.read_text())
        names = list(data["weight_map"])
        for position, target in places.items():
            data["weight_map"][names[int(position.removeprefix("at"))]] = target
        path.write_text(json.dumps(data))

    return change


def _both(*changes: Callable[[Place], object]) -> Callable[[Place], object]:
    return lambda place: [change(place) for change in changes]


def _tokenizer(edit: Callable[[dict[str, Any]], object]) -> Callable[[Place], object]:
    def change(place: Place) -> None:
        path = place.folder / TOKENIZER
        layout = json.loads(path.read_text())
        edit(layout)
        path.write_text(json.dumps(layout))

    return change


# What is put in place of a file.


class _Call:
    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, (self.code,)


def _pickle(place: Place) -> bytes:
    return pickle.dumps(_Call(place.payload()), 2)


def _zip(place: Place) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as file:
        file.writestr("archive/data.pkl", _pickle(place))
        file.writestr("../../evil", "x")
    return memory.getvalue()


def _tar(place: Place) -> bytes:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as file:
        for name in ("pickle", "../../evil"):
            data = _pickle(place)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return memory.getvalue()


def _code(place: Place) -> None:
    """Files of code, under every name that other programs would import."""
    for name in ("modeling_gpt2", "configuration_gpt2", "tokenization_gpt2", "custom_generate", "__init__", "conftest"):
        (place.folder / f"{name}.py").write_text(place.payload())
    (place.folder / "custom_generate").mkdir()
    (place.folder / "custom_generate" / "generate.py").write_text(place.payload())
    (place.folder / "evil.pth").write_text(f"import os; {place.payload()}")


def _template(place: Place) -> str:
    inner = place.payload().replace("'", "\\'")
    return "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ cycler.__init__.__globals__.os.popen('" + inner + "') }}"


def _sparse(place: Place) -> None:
    """A header and a config that agree on 275 GB of weights, in a file of which the disk holds nothing."""
    rows = 1 << 30
    _json(CONFIG, vocab_size=rows, n_positions=rows)(place)
    path = place.folder / WEIGHTS
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    end = 0
    for name, entry in header.items():
        if name in ("transformer.wte.weight", "transformer.wpe.weight"):
            entry.update(dtype="F64", shape=[rows, 16])
        if name != "__metadata__":
            size = math.prod(entry["shape"]) * (8 if entry["dtype"] == "F64" else 4)
            entry["data_offsets"] = [end, end + size]
            end += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(path, 8 + len(text) + end)


def _many_files(place: Place) -> None:
    for number in range(3000):
        (place.folder / f"model-{number:05}.safetensors").touch()
    (place.folder / "a\nb\x1b[2J.json").touch()


def _vocabulary_of(size: int) -> Callable[[dict[str, Any]], object]:
    def edit(layout: dict[str, Any]) -> None:
        layout["model"]["vocab"].update({f"extra {number}": number for number in range(300, size)})

    return edit


def _alike(place: Place) -> None:
    """A cache of the hub, whose snapshot's link leads past its blobs."""
    cache = place.folder / "models--a--b"
    snapshot = cache / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    for path in list(place.folder.iterdir()):
        if path.is_file():
            shutil.move(path, snapshot / path.name)
    (cache / "blobs" / "x").symlink_to(place.outside / "secret.json")
    (snapshot / SETTINGS).unlink()
    (snapshot / SETTINGS).symlink_to("../../blobs/x")
    for path in list(snapshot.iterdir()):
        (place.folder / path.name).symlink_to(path)


DEEP = "[" * 200_000
BAD_JSON = {
    "is empty": (b"", "not valid JSON"),
    "is no JSON": (b"<!DOCTYPE html>", "not valid JSON"),
    "is a list": (b"[]", "JSON object|names with values"),
    "is nested 200,000 deep": (b'{"a":' + DEEP.encode(), "not valid JSON"),
    "is no UTF-8": (b'{"model_type": "\xff\xfe"}', "not valid JSON"),
    "is UTF-16": ('{"model_type": "gpt2"}'.encode("utf-16"), "not valid JSON"),
    "holds a key twice": (b'{"model_type": "gpt2", "n_layer": 1, "n_layer": 2}', "'n_layer' twice"),
    "holds NaN": (b'{"model_type": "gpt2", "layer_norm_epsilon": NaN}', "NaN"),
    "holds Infinity": (b'{"model_type": "gpt2", "layer_norm_epsilon": -Infinity}', "Infinity"),
    "holds 1e999": (b'{"model_type": "gpt2", "layer_norm_epsilon": 1e999}', "1e999"),
    "holds a number of 10,000 digits": (b'{"n_layer": ' + b"9" * 10_000 + b"}", "not valid JSON"),
    "is all NUL": (b"\0" * 4096, "not valid JSON"),
}

CASES: dict[str, Case] = {
    # Paths
    "index: ../": Case("sharded", _index(at0="../llama/model.safetensors"), r"names the file '\.\./llama"),
    "index: absolute": Case("sharded", _index(at3="/etc/passwd"), r"names the file '/etc/passwd'"),
    "index: a folder below": Case("sharded", _index(at1="a/b.safetensors"), r"names the file 'a/b\.safetensors'"),
    "index: backslash": Case("sharded", _index(at1="..\\b.safetensors"), r"names the file '\.\."),
    "index: NUL": Case("sharded", _index(at1="a\0.safetensors"), r"names the file 'a\\x00"),
    "index: wide letters": Case("sharded", _index(at1="ｍodel.safetensors"), r"names the file"),
    "index: a pickle": Case("sharded", _index(at1="model.bin"), r"names the file 'model\.bin'"),
    "index: a URL": Case("sharded", _index(at1="http://a/b.safetensors"), r"names the file 'http:"),
    "index: a shard that is missing": Case(
        "sharded", _index(at1="model-00003-of-00002.safetensors"), r"00003-of-00002\.safetensors is missing"
    ),
    "index: other case": Case("sharded", _index(at1="MODEL-00001-of-00002.safetensors"), r"MODEL-00001.* is missing"),
    "index: the other shard": Case(
        "sharded", _index(at0="model-00002-of-00002.safetensors"), r"says that .* is in model-00002.*but it is not"
    ),
    "index: a list": Case("sharded", _json(INDEX, weight_map=["a"]), r"has no weight_map"),
    "index: empty": Case("sharded", _json(INDEX, weight_map={}), r"has no weight_map"),
    "index: numbers": Case("sharded", _json(INDEX, weight_map={"a": 1}), r"has no weight_map"),
    "index: a key twice": Case(
        "sharded", _raw(INDEX, '"weight_map": {', '"weight_map": {"lm_head.weight": "x",'), r"'lm_head\.weight' twice"
    ),
    "index: deep": Case("sharded", _bytes(INDEX, b'{"weight_map":' + DEEP.encode()), r"index\.json.*not valid JSON"),
    "shards: a tensor in two": Case(
        "sharded",
        lambda place: (
            shutil.copy(place.folder / "model-00001-of-00002.safetensors", place.folder / "model-9.safetensors")
            and _index(at0="model-9.safetensors")(place)
        ),
        r"is both in model-",
    ),
    # Links and files that are none
    "link: weights elsewhere": Case("gpt2", _link(WEIGHTS, lambda p: f"{p.outside}/secret.json"), r"a link out of its"),
    "link: config elsewhere": Case(
        "gpt2", _link(CONFIG, lambda p: f"{p.outside}/secret.json"), r"config\.json is a link"
    ),
    "link: /dev/zero": Case("gpt2", _link(TOKENIZER, lambda _: "/dev/zero"), r"tokenizer\.json is a link out"),
    "link: to itself": Case("gpt2", _link(WEIGHTS, lambda _: WEIGHTS), r"model\.safetensors is a link that leads to"),
    "link: to nothing": Case(
        "gpt2", _link(GENERATION, lambda _: "gone"), r"generation_config\.json is a link that leads"
    ),
    "link: an index elsewhere": Case(
        "sharded", _link(INDEX, lambda p: f"{p.outside}/secret.json"), r"a link out of its"
    ),
    "link: a run's model elsewhere": Case(
        "run", _link("model", lambda p: f"{p.outside}/model"), r"model is a link out"
    ),
    "link: past the blobs of a cache": Case("gpt2", _alike, r"a link out of its folder"),
    "pipe: config": Case("gpt2", _pipe(CONFIG), r"neither config\.json"),
    "pipe: weights": Case("gpt2", _pipe(WEIGHTS), r"model\.safetensors is a named pipe"),
    "pipe: tokenizer": Case("gpt2", _pipe(TOKENIZER), r"tokenizer\.json is a named pipe"),
    "pipe: generation config": Case("gpt2", _pipe(GENERATION), r"generation_config\.json is a named pipe"),
    "pipe: a shard": Case("sharded", _pipe("model-00001-of-00002.safetensors"), r"00001.*is a named pipe"),
    "pipe: beside": Case("gpt2", _pipe("anything"), r"anything is a named pipe"),
    "socket: tokenizer settings": Case("gpt2", _socket(SETTINGS), r"tokenizer_config\.json is a socket"),
    "folder: weights": Case("gpt2", _folder(WEIGHTS), r"model\.safetensors is a folder, not a regular file"),
    "folder: config": Case("gpt2", _folder(CONFIG), r"neither config\.json"),
    "folder: tokenizer": Case("gpt2", _folder(TOKENIZER), r"has no tokenizer\.json"),
    "three thousand files": Case("gpt2", _many_files, UNHARMED),
    # Weights
    "CVE-2025-32434: a pickle alone": Case(
        "gpt2",
        _both(_gone(WEIGHTS), _made("pytorch_model.bin", _pickle)),
        r"pickle, which can run code.*--allow-pickle",
    ),
    "a pickle under the name of safetensors": Case("gpt2", _made(WEIGHTS, _pickle), r"model\.safetensors is .*damaged"),
    "CVE-2025-1944: a zip under that name": Case("gpt2", _made(WEIGHTS, _zip), r"model\.safetensors is .*damaged"),
    "CVE-2025-4517: a tar under that name": Case("gpt2", _made(WEIGHTS, _tar), r"model\.safetensors is .*damaged"),
    "an ELF file under that name": Case("gpt2", _bytes(WEIGHTS, b"\x7fELF" + b"\0" * 500), r"model\.safetensors is"),
    "a pickle as tokenizer": Case("gpt2", _made(TOKENIZER, _pickle), r"tokenizer\.json.*(JSON|read)"),
    "a pickle as config": Case("gpt2", _made(CONFIG, _pickle), r"config\.json is not valid JSON"),
    "CVE-2026-1839: pickles of a training beside": Case(
        "gpt2",
        _both(_made("rng_state.pth", _pickle), _made("optimizer.pt", _pickle), _made("training_args.bin", _zip)),
        None,
    ),
    "weights: no byte": Case("gpt2", _bytes(WEIGHTS, b""), r"it is 0 bytes long"),
    "weights: cut off": Case("gpt2", lambda p: os.truncate(p.folder / WEIGHTS, 3000), r"damaged: "),
    "weights: header of 2^60 bytes": Case("gpt2", _header(lambda _: None, 1 << 60), r"a header of 1152921504606846976"),
    "weights: header of 2^64 - 1": Case(
        "gpt2", _header(lambda _: None, (1 << 64) - 1), r"a header of 18446744073709551615"
    ),
    "weights: header cut": Case("gpt2", _header(lambda _: None, 100), r"header of .*not valid JSON"),
    "weights: header deep": Case(
        "gpt2", _bytes(WEIGHTS, struct.pack("<Q", 200_005) + b'{"a":' + DEEP.encode()), "JSON"
    ),
    "CVE-2026-7482: a tensor beyond the file": Case(
        "gpt2",
        _header(lambda h: h["transformer.wte.weight"].update(shape=[10**9, 16], data_offsets=[0, 64 * 10**9])),
        r"damaged: tensor .* (begins|end)",
    ),
    "weights: tensors overlap": Case(
        "gpt2",
        _header(lambda h: h["transformer.ln_f.bias"].update(data_offsets=h["transformer.ln_f.weight"]["data_offsets"])),
        r"begins at byte .*, where byte",
    ),
    "weights: shape overflows": Case(
        "gpt2", _header(lambda h: h["transformer.ln_f.bias"].update(shape=[1 << 62, 1 << 62])), r"ln_f\.bias of shape"
    ),
    "weights: negative size": Case(
        "gpt2", _header(lambda h: h["transformer.ln_f.bias"].update(shape=[-16])), r"ln_f\.bias has the shape \[-16\]"
    ),
    "weights: unknown type": Case(
        "gpt2",
        _header(lambda h: h["transformer.ln_f.bias"].update(dtype="F99")),
        r"ln_f\.bias has the unknown dtype 'F99'",
    ),
    "weights: integers": Case(
        "gpt2",
        _tensors(lambda t: t.update({"transformer.ln_f.bias": torch.ones(16, dtype=torch.int64)})),
        r"ln_f\.bias in .* is of type I64",
    ),
    "weights: a name of controls": Case(
        "gpt2", _header(lambda h: h.update({"\x1b[2Jx": h.pop("transformer.ln_f.bias")})), r"name is '\\x1b\[2Jx'"
    ),
    "weights: metadata is code": Case("gpt2", _header(lambda h: h.update(__metadata__={"a": {}})), r"__metadata__"),
    "weights: 275 GB of nothing": Case("gpt2", _sparse, r"GB of weights, but only .* are free"),
    "weights: a tensor missing": Case(
        "gpt2",
        _tensors(lambda t: t.pop("transformer.h.1.mlp.c_fc.bias")),
        r"tensor .*h\.1\.mlp\.c_fc\.bias .*is missing",
    ),
    "weights: a tensor too many": Case(
        "llama",
        _tensors(lambda t: t.update({"model.evil": torch.ones(3)})),
        r"model\.evil of shape \(3,\) has no place",
    ),
    "weights: a tensor misshapen": Case(
        "bert",
        _tensors(lambda t: t.update({"bert.embeddings.LayerNorm.bias": torch.ones(17)})),
        r"LayerNorm\.bias has shape \(17,\), but by config\.json it must have \(16,\)",
    ),
    "weights: a decoder's tensor missing": Case(
        "t5",
        _tensors(lambda t: t.pop("decoder.final_layer_norm.weight")),
        r"decoder\.final_layer_norm\.weight .*is missing",
    ),
    "weights: another model's": Case(
        "llama", lambda p: shutil.copy(p.outside / "gpt2.safetensors", p.folder / WEIGHTS), "is missing"
    ),
    "weights: none": Case("gpt2", _gone(WEIGHTS), r"has no model\.safetensors"),
    # Config
    "CVE-2026-4372: auto_map": Case(
        "gpt2",
        _both(_code, _json(CONFIG, auto_map={"AutoModelForCausalLM": "modeling_gpt2.Evil"})),
        r"config\.json has auto_map",
    ),
    "auto_map of another repository": Case(
        "llama", _json(CONFIG, auto_map={"AutoConfig": "evil/repo--configuration.Evil"}), r"config\.json has auto_map"
    ),
    "CVE-2026-5241: config asks to be trusted": Case(
        "gpt2", _both(_code, _json(CONFIG, trust_remote_code=True)), UNHARMED
    ),
    "code beside a good model": Case("gpt2", _code, UNHARMED),
    "config: another family": Case("gpt2", _json(CONFIG, model_type="mamba"), r"model_type is 'mamba'"),
    "config: a path as family": Case("gpt2", _json(CONFIG, model_type="../../evil"), r"model_type is '\.\./\.\./evil'"),
    "config: a list as family": Case("gpt2", _json(CONFIG, model_type=["gpt2"]), r"model_type is \['gpt2'\]"),
    "config: the other family's": Case("gpt2", _json(CONFIG, model_type="llama"), r"config\.json|is missing"),
    "config: quantised": Case(
        "llama", _json(CONFIG, quantization_config={"load_in_4bit": True}), r"quantization_config is"
    ),
    "config: an adapter": Case("llama", _json(CONFIG, pruned_heads={"0": [1]}), r"pruned_heads is"),
    "config: code as activation": Case(
        "gpt2", _json(CONFIG, activation_function="__import__('os').system"), r"activation_function is \"__import__"
    ),
    "config: code as dtype": Case("gpt2", _json(CONFIG, torch_dtype="__import__('os').getpid()"), UNHARMED),
    "config: 20 MB": Case(
        "gpt2", _bytes(CONFIG, b'{"a": "' + b"x" * (20 << 20) + b'"}'), r"config\.json is 209\d+ bytes"
    ),
    "config: a value of a megabyte": Case("gpt2", _json(CONFIG, n_embd="x" * (1 << 20)), r"n_embd is 'xxx"),
    "config: 10^9 layers": Case("gpt2", _json(CONFIG, n_layer=10**9), r"(states|n_layer).*1000000000"),
    "config: 10^9 heads": Case("llama", _json(CONFIG, num_attention_heads=10**9), r"heads x .*1000000000"),
    "config: 10^18 ids": Case("llama", _json(CONFIG, vocab_size=10**18), r"1000000000000000000"),
    "config: turns slowed by 0": Case(
        "llama", _json(CONFIG, rope_parameters={"rope_type": "linear", "factor": 0.0, "rope_theta": 1e4}), r"factor"
    ),
    "config: a million stops": Case(
        "gpt2", _json(CONFIG, eos_token_id=list(range(10**6))), r"config\.json is \d+ bytes long"
    ),
    "config: stops that are none": Case(
        "gpt2", _both(_gone(GENERATION), _json(CONFIG, eos_token_id=["x"])), r"eos_token_id is \['x'\]"
    ),
    # Generation config
    "generation config: no JSON": Case("gpt2", _bytes(GENERATION, b"{"), r"generation_config\.json is not valid JSON"),
    "generation config: a key twice": Case(
        "gpt2", _bytes(GENERATION, b'{"eos_token_id": 1, "eos_token_id": 2}'), r"'eos_token_id' twice"
    ),
    "generation config: a text as stop": Case(
        "gpt2", _json(GENERATION, eos_token_id="0; evil"), r"eos_token_id is '0; evil'"
    ),
    "generation config: code": Case(
        "gpt2", _both(_code, _json(GENERATION, custom_generate="custom_generate", trust_remote_code=True)), UNHARMED
    ),
    # Tokenizer
    "tokenizer: more ids than the model": Case(
        "gpt2", _tokenizer(_vocabulary_of(400)), r"has 400 ids, but the model knows 300"
    ),
    "tokenizer: an id of 10^9": Case(
        "gpt2", _tokenizer(lambda t: t["model"]["vocab"].update(x=10**9)), r"tokenizer\.json.*1000000000"
    ),
    "tokenizer: a negative id": Case(
        "gpt2", _tokenizer(lambda t: t["model"]["vocab"].update(x=-1)), r"tokenizer\.json.*-1"
    ),
    "tokenizer: an id twice": Case(
        "gpt2", _tokenizer(lambda t: t["model"]["vocab"].update(x=5)), r"tokenizer\.json.* 5 "
    ),
    "tokenizer: deep": Case(
        "gpt2", _bytes(TOKENIZER, b'{"model":' + DEEP.encode()), r"tokenizer\.json is not valid JSON"
    ),
    "tokenizer: of an unknown kind": Case(
        "gpt2", _tokenizer(lambda t: t["model"].update(type="Evil")), r"tokenizer\.json.*'Evil'"
    ),
    "tokenizer: a pattern without end": Case(
        "gpt2",
        _tokenizer(
            lambda t: t.update(
                pre_tokenizer={
                    "type": "Split",
                    "pattern": {"Regex": r"(a+)+$|(\w+\s?)+$"},
                    "behavior": "Isolated",
                    "invert": False,
                }
            )
        ),
        r"tokenizer\.json.*pattern",
    ),
    "tokenizer: a table of garbage": Case(
        "gpt2",
        _tokenizer(lambda t: t.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA/////w=="})),
        r"tokenizer\.json",
    ),
    "tokenizer: an added token of a megabyte": Case(
        "gpt2",
        _tokenizer(lambda t: t["added_tokens"].append({**t["added_tokens"][0], "id": 299, "content": "x" * (1 << 20)})),
        r"tokenizer\.json.*added token",
    ),
    "tokenizer: merges of nothing": Case(
        "gpt2", _tokenizer(lambda t: t["model"].update(merges=[["absent", "gone"]])), r"tokenizer\.json"
    ),
    "tokenizer: cut off": Case(
        "gpt2", lambda p: os.truncate(p.folder / TOKENIZER, 2000), r"tokenizer\.json is not valid JSON"
    ),
    "tokenizer: none": Case("gpt2", _gone(TOKENIZER), r"has no tokenizer\.json"),
    "tokenizer: SentencePiece of garbage": Case(
        "gpt2",
        _both(_gone(TOKENIZER), _bytes("tokenizer.model", b"\x0a\xff\xff\xff\xff\x0f" + b"x" * 100)),
        r"tokenizer\.model",
    ),
    "GHSA-7rxv-5jhh-j6xx: pieces of negative length": Case(
        "gpt2",
        _both(_gone(TOKENIZER), _bytes("tokenizer.model", b"\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01" + b"x" * 50)),
        r"tokenizer\.model",
    ),
    "tokenizer: two halves that do not fit": Case(
        "gpt2",
        _both(_gone(TOKENIZER), _bytes("vocab.json", b'{"a": 0}'), _bytes("merges.txt", b"#version: 0.2\nb c\n")),
        r"merges\.txt",
    ),
    "CVE-2024-34359, CVE-2026-5760: a chat template that runs": Case(
        "gpt2", lambda p: _json(SETTINGS, chat_template=_template(p))(p), UNHARMED
    ),
    "a chat template in a file": Case(
        "gpt2", lambda p: (p.folder / "chat_template.jinja").write_text(_template(p)), UNHARMED
    ),
    "tokenizer settings: auto_map": Case(
        "gpt2",
        _both(_code, _json(SETTINGS, auto_map={"AutoTokenizer": ["tokenization_gpt2.Evil", None]})),
        r"tokenizer_config\.json has auto_map",
    ),
    "tokenizer settings: a class by path": Case("gpt2", _json(SETTINGS, tokenizer_class="os.system"), UNHARMED),
    "tokenizer settings: a key twice": Case(
        "gpt2", _bytes(SETTINGS, b'{"bos_token": "a", "bos_token": "b"}'), r"tokenizer_config\.json.*'bos_token' twice"
    ),
    # Folders of other kinds
    "openai: a checkpoint elsewhere": Case(
        "gpt2",
        _both(
            _json("hparams.json", n_vocab=300, n_ctx=32, n_embd=16, n_head=2, n_layer=2),
            _bytes("checkpoint", b'model_checkpoint_path: "../../outside/model.ckpt"\n'),
        ),
        r"model\.ckpt\.index cannot be read",
    ),
    "run: a recipe alone": Case("run", lambda p: shutil.rmtree(p.folder / "model"), r"a run that has no model yet"),
    **{
        f"config {name}": Case("gpt2", _bytes(CONFIG, data), rf"config\.json .*{said}")
        for name, (data, said) in BAD_JSON.items()
    },
}
"""By name. A test takes a part of them, a soak run all and more."""

_SIZES = {
    "gpt2": ("n_embd", "n_layer", "n_head", "n_positions", "vocab_size"),
    "llama": ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size"),
    "bert": ("hidden_size", "num_hidden_layers", "num_attention_heads", "type_vocab_size", "max_position_embeddings"),
    "t5": ("d_model", "num_layers", "num_heads", "d_kv", "d_ff", "vocab_size"),
}
_MEGABYTE = 1 << 20
LARGE: dict[str, Case] = {
    "tokenizer: 60 MB of zeros": Case(
        "gpt2", _bytes(TOKENIZER, b'{"a":[' + b"0," * (30 * _MEGABYTE) + b"0]}"), r"tokenizer\.json", 512 * _MEGABYTE
    ),
    "tokenizer: 200 MB": Case(
        "gpt2", lambda p: os.truncate(p.folder / TOKENIZER, 200 * _MEGABYTE), r"is \d+ bytes long"
    ),
    "tokenizer: 20 million objects": Case(
        "gpt2", _bytes(TOKENIZER, b'{"a":[' + b"{}," * (20 * _MEGABYTE) + b"0]}"), r"made of 20,971,522 objects"
    ),
    "index: 300,000 tensors in one shard": Case(
        "sharded",
        _json(INDEX, weight_map={f"a{number}": "model-00001-of-00002.safetensors" for number in range(300_000)}),
        r"but it is not",
        256 * _MEGABYTE,
    ),
    "index: 300,000 shards": Case(
        "sharded",
        _json(INDEX, weight_map={f"a{number}": f"model-{number}.safetensors" for number in range(300_000)}),
        r"is missing",
        256 * _MEGABYTE,
    ),
    "weights: 130,000 empty tensors": Case(
        "gpt2",
        _header(
            lambda h: h.update(
                {f"a{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(125_000)}
            )
        ),
        r"has no place|is missing",
        256 * _MEGABYTE,
    ),
}
"""Files that are large themselves."""
_NO_SIZES: tuple[Any, ...] = (0, -1, 1 << 40, 10**30, 2.5, "16", True, [16], {"a": 1}, "\ud800")


def more_cases() -> Iterator[tuple[str, Case]]:
    """Every size of every family with every value that is none, damages drawn by chance, and large files."""
    yield from LARGE.items()
    for base, names in _SIZES.items():
        for name in names:
            for value in _NO_SIZES:
                yield (
                    f"{base}: {name} is {str(value)[:12]!r}",
                    Case(base, _json(CONFIG, **{name: value}), r"config\.json"),
                )
    for file in (INDEX, GENERATION, SETTINGS, TOKENIZER):
        for name, (data, _) in BAD_JSON.items():
            base = "sharded" if file == INDEX else "gpt2"
            yield f"{file} {name}", Case(base, _bytes(file, data), re.escape(file))
    for seed in range(80):
        yield f"weights damaged by chance, {seed}", Case("gpt2", _damaged(seed), r"model\.safetensors|tensor")


def _damaged(seed: int) -> Callable[[Place], object]:
    def change(place: Place) -> None:
        chance = random.Random(seed)
        path = place.folder / WEIGHTS
        data = bytearray(path.read_bytes())
        header = 8 + int.from_bytes(data[:8], "little")
        kind = seed % 4
        if kind == 0:
            del data[chance.randrange(len(data)) :]
        elif kind == 1:
            data[chance.randrange(8)] ^= 1 << chance.randrange(8)
        elif kind == 2:
            data += bytes(chance.randrange(1, 50))
        else:
            digits = [at for at in range(8, header) if chr(data[at]).isdigit()]
            at = chance.choice(digits)
            data[at] = ord(chance.choice([digit for digit in "0123456789" if ord(digit) != data[at]]))
        path.write_bytes(data)

    return change


def make(name: str, case: Case, bases: dict[str, Path], place: Path) -> Place:
    """The folder of a case, and what is around it."""
    folder, outside = place / "model", place / "outside"
    shutil.copytree(bases[case.base], folder)
    outside.mkdir()
    (outside / "secret.json").write_text('{"secret": "token"}')
    shutil.copytree(bases["gpt2"], outside / "model")
    shutil.copy(bases["gpt2"] / WEIGHTS, outside / "gpt2.safetensors")
    made = Place(folder, outside, place / "canary")
    case.change(made)
    return made
