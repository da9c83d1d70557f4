"""llama.cpp on a GGUF file that guiju exported; by its batch interface, so that several sequences run together."""

from __future__ import annotations

import os

import llama_cpp
import numpy as np
from protocol import serve

context = None
vocab_size = 0
MOST = 8


def load(file: str, length: int, **_: object) -> str:
    global model, context, vocab_size
    llama_cpp.llama_backend_init()
    parameters = llama_cpp.llama_model_default_params()
    parameters.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(file.encode(), parameters)
    if not model:
        raise SystemExit(f"llama.cpp cannot open {file}")
    wishes = llama_cpp.llama_context_default_params()
    wishes.n_ctx, wishes.n_seq_max = length * MOST, MOST
    wishes.n_batch = wishes.n_ubatch = 512
    wishes.n_threads = wishes.n_threads_batch = len(os.sched_getaffinity(0))
    context = llama_cpp.llama_init_from_model(model, wishes)
    vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    return file.rsplit("-", 1)[-1].removesuffix(".gguf")


def generate(prompts: list[list[int]], new: int) -> list[list[int]]:
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
    batch = llama_cpp.llama_batch_init(512, 0, 1)
    chosen: list[list[int]] = [[] for _ in prompts]
    last = [0] * len(prompts)
    for number, prompt in enumerate(prompts):  # a prompt a call: 512 tokens are a whole batch
        fill(batch, [(token, place, number, place == len(prompt) - 1) for place, token in enumerate(prompt)])
        last[number] = best(batch.n_tokens - 1)
        chosen[number].append(last[number])
    for step in range(1, new):
        fill(batch, [(last[n], len(prompt) + step - 1, n, True) for n, prompt in enumerate(prompts)])
        for number in range(len(prompts)):
            last[number] = best(number)
            chosen[number].append(last[number])
    llama_cpp.llama_batch_free(batch)
    return chosen


def fill(batch: llama_cpp.llama_batch, tokens: list[tuple[int, int, int, bool]]) -> None:
    batch.n_tokens = len(tokens)
    for place, (token, position, sequence, wanted) in enumerate(tokens):
        batch.token[place], batch.pos[place] = token, position
        batch.n_seq_id[place], batch.seq_id[place][0] = 1, sequence
        batch.logits[place] = wanted
    if llama_cpp.llama_decode(context, batch):
        raise SystemExit("llama_decode failed")


def best(place: int) -> int:
    row = llama_cpp.llama_get_logits_ith(context, place)
    return int(np.ctypeslib.as_array(row, shape=(vocab_size,)).argmax())


if __name__ == "__main__":
    serve({"load": load, "generate": generate})
