"""CTranslate2, converted from the same folder by its own converter."""

from __future__ import annotations

import os

import ctranslate2
from protocol import serve

generator = None
pieces: list[str] = []
numbers: dict[str, int] = {}


def convert(folder: str, out: str, precision: str) -> str:
    """Done apart from the measured process: it needs transformers and torch."""
    from ctranslate2.converters import TransformersConverter

    quantization = None if precision == "float32" else precision
    TransformersConverter(folder).convert(out, quantization=quantization, force=True)
    return out


def load(folder: str, precision: str, vocabulary: str, **_: object) -> str:
    global generator, pieces, numbers
    generator = ctranslate2.Generator(
        folder, device="cpu", compute_type=precision, intra_threads=len(os.sched_getaffinity(0)), inter_threads=1
    )
    with open(vocabulary, encoding="utf-8") as file:  # noqa: PTH123
        import json

        pieces = json.load(file)
    numbers = {piece: number for number, piece in enumerate(pieces)}
    return precision


def generate(prompts: list[list[int]], new: int) -> list[list[int]]:
    found = generator.generate_batch(
        [[pieces[token] for token in prompt] for prompt in prompts],
        max_length=new,
        min_length=new,
        sampling_topk=1,
        include_prompt_in_result=False,
        end_token=[],
    )
    return [result.sequences_ids[0] for result in found]


if __name__ == "__main__":
    serve({"convert": convert, "load": load, "generate": generate})
