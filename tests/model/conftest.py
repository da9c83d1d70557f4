from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from guiju.model import Transformer, gpt2_config, llama_config

sys.path.insert(0, str(Path(__file__).parent))

from foreign_models import lively

SHAPES = {
    "gpt2": gpt2_config(vocab_size=97, context=80, width=32, layers=3, heads=4),
    "llama": llama_config(vocab_size=97, context=80, width=32, layers=3, heads=4),
    "llama-grouped": llama_config(vocab_size=97, context=80, width=32, layers=3, heads=4, kv_heads=2, tied=True),
}


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(params=SHAPES)
def tiny_model(request) -> Transformer:
    return lively(SHAPES[request.param])
