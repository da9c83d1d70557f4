from __future__ import annotations

from pathlib import Path

import pytest
import torch

from guiju.model import Transformer, llama_config, load_llama2c
from guiju.tokens import Llama2cTokenizer, Tokenizer, TokenizerSettings, train_tokenizer

STORIES = Path(__file__).parents[2] / "examples" / "data" / "stories260K"


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def stories() -> tuple[Transformer, Llama2cTokenizer]:
    return load_llama2c(STORIES / "stories260K.bin"), Llama2cTokenizer.read(STORIES / "tok512.bin", 512)


@pytest.fixture(scope="session")
def bytes_tokenizer() -> Tokenizer:
    """The 256 bytes and the end of text: every id is one byte, so that characters are cut in the middle."""
    return train_tokenizer(["床前明月光，疑是地上霜。", "plain text"], TokenizerSettings(vocab_size=257))


@pytest.fixture(scope="session")
def random_model() -> Transformer:
    """Random weights over the bytes' vocabulary, so lively that its answers differ from prompt to prompt."""
    torch.manual_seed(3)
    model = Transformer(llama_config(vocab_size=257, context=64, width=32, layers=2, heads=4, kv_heads=2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()
