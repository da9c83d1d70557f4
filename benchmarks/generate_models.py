"""The models of the generation benchmark, made once: random weights in published shapes, and what peers read."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from copy_model import edits, make
from guiju.model import ModelConfig, Transformer, gpt2_config, llama_config, save_model
from guiju.providers import export_model, load
from guiju.tokens import Tokenizer, TokenizerSettings, train_tokenizer

if TYPE_CHECKING:
    from generate import Peer

HERE = Path(__file__).parent
ROOT = HERE.parent
MODELS = HERE / ".models"
STORIES = ROOT / "examples/data/tinystories/tinystories_sample.train.txt.gz"
TOKENS = 4000
"""Ids that prompts are drawn from: the tokenizer's; the model has more rows, as published ones do."""

LARGEST = ("runs/stories/model", "recipes/stories.yaml", "runs/stories/corpus/validation.jsonl")
"""Its model, what makes it, and text that it never saw."""


def configuration(shape: str) -> ModelConfig:
    if shape == "gpt2":
        return gpt2_config(vocab_size=50257)
    return llama_config(  # Qwen2-0.5B
        vocab_size=151936, context=2048, width=896, layers=24, heads=14, kv_heads=2, hidden=4864, tied=True,
        norm_epsilon=1e-6, rotary_base=1e6, qkv_bias=True,
    )  # fmt: skip


def folder_of(shape: str) -> Path:
    folder = MODELS / shape / "huggingface"
    if not (folder / "model.safetensors").exists():
        text = gzip.decompress(STORIES.read_bytes()).decode()
        tokenizer = train_tokenizer([text], TokenizerSettings(vocab_size=TOKENS))
        torch.manual_seed(0)
        save_model(Transformer(configuration(shape)), folder, tokenizer)
        _fill_vocabulary(folder / "tokenizer.json", configuration(shape).vocab_size)
        file = folder / "tokenizer_config.json"
        names = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
        file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **names}), encoding="utf-8")
    return folder


def _fill_vocabulary(file: Path, size: int) -> None:
    """Names for all rows of the model, as some peers want one for each."""
    layout = json.loads(file.read_text(encoding="utf-8"))
    vocabulary = layout["model"]["vocab"]
    vocabulary.update({f"<unused{number}>": number for number in range(len(vocabulary), size)})
    file.write_text(json.dumps(layout, ensure_ascii=False), encoding="utf-8")


def prepare(shape: str, name: str, peer: Peer) -> dict[str, Any]:
    """What a peer's `load` is told; its files are made where they are missing."""
    folder = folder_of(shape)
    options = {"folder": str(folder), **peer.options}
    if peer.script == "llama_cpp_peer":
        file = MODELS / shape / f"gguf-{peer.options['type']}"
        if not file.exists():
            export_model(folder, "gguf", file, type=peer.options["type"])
        return {"file": str(next(file.glob("*.gguf"))), "length": 1024}
    if peer.script == "ctranslate2_peer":
        out = MODELS / shape / f"ctranslate2-{peer.options['precision']}"
        if not (out / "model.bin").exists():
            _convert(peer, folder=str(folder), out=str(out), precision=peer.options["precision"])
        return {"folder": str(out), "precision": peer.options["precision"], "vocabulary": str(out / "vocabulary.json")}
    if peer.script == "openvino_genai_peer":
        out = MODELS / shape / "openvino-int8"
        if not (out / "openvino_model.bin").exists():
            _convert(peer, folder=str(folder), out=str(out))
        return {"folder": str(out)}
    return options


def _convert(peer: Peer, **options: Any) -> None:
    from generate import python_of

    line = json.dumps({"do": "convert", **options})
    command = [python_of(peer.environment), str(HERE / "peers" / f"{peer.script}.py")]
    ended = subprocess.run(
        command, input=line + "\n", capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    if ended.returncode:
        raise RuntimeError(ended.stderr.strip().splitlines()[-1] if ended.stderr.strip() else "cannot be converted")


def copying(count: int) -> tuple[Path, dict[str, Any]]:
    """The model that copies and edits, and new edits to make."""
    folder = ROOT / "runs/copying/model"
    if not (folder / "model.safetensors").exists():
        print("training the model that copies and edits (once)", file=sys.stderr)
        make(ROOT / "runs/copying", 1500)
    tokenizer = Tokenizer.load(folder)
    prompts, lengths = [], []
    for prompt, answer in edits(count, seed=1):
        prompts.append([*tokenizer.prefix_ids, *tokenizer.encode(prompt)])
        lengths.append(len(tokenizer.encode(answer)))
    return folder, {"prompts": prompts, "lengths": lengths}


def real_models() -> Iterator[tuple[str, Path, list[list[int]], int]]:
    """Name, folder, rows of ids (the first one of each is given), and bytes that the others stand for."""
    checkpoint = ROOT / "examples/data/stories260K/stories260K.bin"
    folder = MODELS / "stories260K"
    if checkpoint.exists():
        if not folder.exists():
            export_model(checkpoint, "huggingface", folder)
        stories = gzip.decompress(STORIES.read_bytes()).decode().split("<|endoftext|>")
        yield ("stories260K", folder, *_rows(folder, [story.strip() for story in stories if story.strip()][-40:]))
    largest = ROOT / LARGEST[0]
    if largest.exists():
        lines = (ROOT / LARGEST[2]).read_text(encoding="utf-8").splitlines()
        yield ("stories-9M", largest, *_rows(largest, [json.loads(line)["text"] for line in lines][:60]))
    else:
        print(f"{LARGEST[0]} is not there: `guiju run {LARGEST[1]}` makes it", file=sys.stderr)


def _rows(folder: Path, texts: list[str], most: int = 256) -> tuple[list[list[int]], int]:
    tokenizer = load(folder).tokenizer
    rows, size = [], 0
    for text in texts:
        ids = tokenizer.encode(text)[: most - 1]
        rows.append([tokenizer.start_id, *ids])
        size += sum(tokenizer.bytes_per_token[token] for token in ids)
    return rows, size
