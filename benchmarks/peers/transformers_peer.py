"""transformers' generate, as its documentation shows it."""

from __future__ import annotations

import torch
from protocol import serve
from transformers import AutoModelForCausalLM

model = None


def load(folder: str, **_: object) -> str:
    global model
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return "float32"


def generate(prompts: list[list[int]], new: int) -> list[list[int]]:
    ids = torch.tensor(prompts)
    with torch.inference_mode():
        found = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new,
            min_new_tokens=new,
            do_sample=False,
            pad_token_id=0,
        )
    return found[:, ids.size(1) :].tolist()


if __name__ == "__main__":
    serve({"load": load, "generate": generate})
