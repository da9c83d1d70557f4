from __future__ import annotations

import json

import pytest
import torch
from worlds import make_batches, make_model, make_settings

from guiju import device
from guiju.training import train


def test_the_library_is_used_recorded_put_back_and_kept_over_a_stop(world, tmp_path, monkeypatch):
    libraries = device.float32_libraries(torch.device("cpu"))
    if len(libraries) == 1:
        pytest.skip("this processor's oneDNN does not compute float32 exactly, so there is nothing to choose")
    before = torch.backends.mkldnn.matmul.fp32_precision
    seen = []

    def evaluate(model):
        seen.append(torch.backends.mkldnn.matmul.fp32_precision)
        return 1.0

    monkeypatch.setattr(device, "float32_library", lambda where: "onednn")
    first = train(make_model(), make_batches(world), make_settings(steps=8), folder=tmp_path, evaluate=evaluate)
    manifest = json.loads((first.checkpoint / "manifest.json").read_text())
    assert manifest["environment"]["float32_library"] == "onednn"
    assert set(seen) == {"bf16"}
    assert torch.backends.mkldnn.matmul.fp32_precision == before
    monkeypatch.setattr(device, "float32_library", lambda where: "torch")  # as another rule would have it
    again = train(make_model(), make_batches(world), make_settings(steps=8, keep=3), folder=tmp_path)
    assert again.bit_exact


def test_both_libraries_learn_the_same_up_to_rounding(world, tmp_path, monkeypatch):
    losses = []
    for library in device.float32_libraries(torch.device("cpu")):
        monkeypatch.setattr(device, "float32_library", lambda where, library=library: library)
        result = train(make_model(), make_batches(world), make_settings(), folder=tmp_path / library)
        losses.append(result.final_loss)
    assert losses == pytest.approx([losses[0]] * len(losses), rel=1e-4)
