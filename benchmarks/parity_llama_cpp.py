"""llama.cpp's side of benchmarks/parity.py, run by the Python of its own environment: ids, logits and greedy tokens."""

from __future__ import annotations

import json
import sys

import llama_cpp


def main() -> None:
    asked = json.load(sys.stdin)
    full = llama_cpp.GGML_TYPE_F32  # its cache holds keys and values in f16 unless it is told
    model = llama_cpp.Llama(
        asked["model"],
        n_ctx=512,
        n_threads=1,
        verbose=False,
        logits_all=True,
        type_k=full,
        type_v=full,
        flash_attn=False,
    )
    first = model.metadata.get("tokenizer.ggml.add_bos_token") == "true"
    answer = {"version": llama_cpp.__version__, "ids": [], "tokens": [], "logits": []}
    for prompt in asked["prompts"]:
        ids = model.tokenize(prompt.encode(), add_bos=first, special=False)
        model.reset()
        model.eval(ids)
        answer["ids"].append(ids)
        answer["logits"].append([float(value) for value in model.scores[len(ids) - 1]])
        tokens = []
        for token in model.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0):
            tokens.append(token)
            if len(tokens) == asked["tokens"]:
                break
        answer["tokens"].append(tokens)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
