from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from guiju.model import ModelConfig, Transformer, gpt2_config, llama_config

SHAPES = {
    "gpt2": gpt2_config(vocab_size=97, context=80, width=32, layers=3, heads=4),
    "llama": llama_config(vocab_size=97, context=80, width=32, layers=3, heads=4),
    "llama-grouped": llama_config(vocab_size=97, context=80, width=32, layers=3, heads=4, kv_heads=2, tied=True),
}


def lively(config: ModelConfig, seed: int = 0) -> Transformer:
    """A model whose weights are large enough for its logits to differ by whole numbers: tolerances mean something."""
    torch.manual_seed(seed)
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model.eval()


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(params=SHAPES)
def tiny_model(request) -> Transformer:
    return lively(SHAPES[request.param])
