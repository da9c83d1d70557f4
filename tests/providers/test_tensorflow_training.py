"""A SavedModel trains: its step is our loop's own update, and its weights come back as a model of ours."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from guiju.errors import ConfigError, ModelError
from guiju.model import Transformer, gpt2_config, llama_config, save_model
from guiju.providers import export_model, load, save_trained
from guiju.providers.tensorflow_safety import require_harmless
from guiju.tokens import IGNORED, Batch, TokenizerSettings, train_tokenizer
from guiju.training import TrainingSettings, train

STEPS = 20
SIZES = {"vocab_size": 280, "context": 24, "width": 32, "layers": 2, "heads": 4}
SHAPES = {
    "gpt2": gpt2_config(**SIZES),
    "llama, tied": llama_config(**SIZES, kv_heads=2, tied=True),
    "relative": replace(
        llama_config(**SIZES), positions="relative", relative_buckets=8, relative_distance=20, tied=False
    ),
}


class Rows:
    """The same batches for both: rows out of four that repeat, some of their targets left out."""

    def __init__(self) -> None:
        chance = np.random.default_rng(0)
        texts = chance.integers(0, 280, (4, 24))
        self.ids = [texts[chance.integers(0, 4, 6)] for _ in range(STEPS)]
        self.targets = [np.roll(ids, -1, axis=1) for ids in self.ids]
        for targets in self.targets:
            targets[:, -1] = IGNORED
            targets[chance.random(targets.shape) < 0.1] = IGNORED
        self.place = 0

    def next(self) -> Batch:
        self.place += 1
        ids, targets = self.ids[self.place - 1], self.targets[self.place - 1]
        return Batch(torch.from_numpy(ids.copy()), torch.from_numpy(targets.copy()))

    def state(self) -> dict[str, int]:
        return {"place": self.place}

    def restore(self, state) -> None:
        self.place = state["place"]

    def identity(self) -> dict[str, str | int]:
        return {"kind": "rows"}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_tokenizer(["Once upon a time there was a dog. " * 20], TokenizerSettings(vocab_size=280))


def _model(name: str) -> Transformer:
    torch.manual_seed(0)
    return Transformer(SHAPES[name])


def _export(model: Transformer, tokenizer, place: Path) -> Path:
    save_model(model, place / "model", tokenizer)
    export_model(place / "model", to="tensorflow", out=place / "saved")
    return place / "saved"


def _export_graph(tf, model: Transformer, tokenizer, place: Path) -> Path:
    """Of a shape that no other program's folder can hold, too."""
    from guiju.providers.formats.tensorflow import write
    from guiju.providers.local import LocalModel

    place.mkdir()
    write(LocalModel("made here", model, tokenizer, ()), place)
    return place


def _train_in_tensorflow(tf, folder: Path, rates: list[float]):
    loaded = tf.saved_model.load(str(folder))
    step, rows, losses = loaded.signatures["train_step"], Rows(), []
    for ids, targets, rate in zip(rows.ids, rows.targets, rates, strict=True):
        told = step(
            input_ids=tf.constant(ids, tf.int32), targets=tf.constant(targets, tf.int32),
            learning_rate=tf.constant(rate, tf.float32),
        )  # fmt: skip
        losses.append(float(told["loss"]))
    assert int(told["step"]) == STEPS
    return loaded, losses


@pytest.mark.parametrize("name", SHAPES)
def test_twenty_steps_lower_the_loss_as_our_loop_does_and_the_weights_come_back(name, tensorflow, tokenizer, tmp_path):
    model = _model(name)
    saved = _export_graph(tensorflow, model, tokenizer, tmp_path / "saved")
    require_harmless(saved)
    settings = TrainingSettings(
        steps=STEPS, batch=6, learning_rate=3e-3, warmup_steps=2, dtype="float32", evaluate_every=0, checkpoint_every=0
    )
    result = train(model, Rows(), settings, folder=tmp_path / "run")
    lines = [json.loads(line) for line in result.log.read_text().splitlines()]
    ours, rates = [line["loss"] for line in lines], [line["learning_rate"] for line in lines]
    loaded, theirs = _train_in_tensorflow(tensorflow, saved, rates)
    assert theirs == pytest.approx(ours, abs=1e-3)
    assert theirs[0] - theirs[-1] > 0.5

    save_trained(loaded, saved, tmp_path / "trained")
    back = load_back(tmp_path / "trained")
    for key, weight in model.named_parameters():
        np.testing.assert_allclose(back[key].numpy(), weight.detach().numpy(), atol=2e-4, err_msg=key)
    for key, variable in loaded.weights.items():
        assert np.array_equal(back[key].numpy(), variable.numpy())  # to the bit


def load_back(folder: Path) -> dict[str, torch.Tensor]:
    from guiju.providers.tensorflow_weights import take_weights

    return {name: weight.detach() for name, weight in take_weights(f"tf:{folder}").model.named_parameters()}


def test_what_tensorflow_trained_is_exported_scored_and_trained_on(tensorflow, tokenizer, tmp_path, guiju):
    saved = _export(_model("gpt2"), tokenizer, tmp_path)
    loaded, losses = _train_in_tensorflow(tensorflow, saved, [1e-3] * STEPS)
    save_trained(loaded, saved, tmp_path / "trained")
    answer = guiju("export", f"tf:{tmp_path / 'trained'}", "--to", "huggingface", "--out", tmp_path / "back")
    assert answer.code == 0, answer.err
    back = load(tmp_path / "back")
    assert back.tokenizer.digest == tokenizer.digest
    texts = ["Once upon a time", "a dog"]
    graph = load(f"tf:{tmp_path / 'trained'}")
    for ours, theirs, before in zip(back.score(texts), graph.score(texts), load(saved.parent / "model").score(texts),
                                    strict=True):  # fmt: skip
        assert ours.nll_nats == pytest.approx(theirs.nll_nats, abs=1e-4)
        assert abs(ours.nll_nats - before.nll_nats) > 1e-2
    again = tensorflow.saved_model.load(str(tmp_path / "trained"))
    rows = Rows()
    ids, targets = (tensorflow.constant(one, tensorflow.int32) for one in (rows.ids[0], rows.targets[0]))
    told = again.signatures["train_step"](input_ids=ids, targets=targets, learning_rate=tensorflow.constant(1e-3))
    assert int(told["step"]) == STEPS + 1 and float(told["loss"]) < losses[0] - 0.1
    with pytest.raises(ConfigError, match="is there already"):
        save_trained(loaded, saved, tmp_path / "trained")


def test_an_untrained_export_comes_back_to_the_bit_and_carries_no_optimizer(tensorflow, tokenizer, tmp_path):
    model = _model("llama, tied")
    saved = _export(model, tokenizer, tmp_path)
    for key, weight in model.named_parameters():
        assert torch.equal(load_back(saved)[key], weight.detach())
    size = sum(4 * weight.numel() for weight in model.parameters())
    data = (saved / "variables" / "variables.data-00000-of-00001").stat().st_size
    assert data < 1.5 * size + 20_000


def test_a_step_whose_loss_is_no_number_changes_nothing(tensorflow, tokenizer, tmp_path):
    tf = tensorflow
    loaded = tf.saved_model.load(str(_export(_model("gpt2"), tokenizer, tmp_path)))
    before = {name: variable.numpy() for name, variable in loaded.weights.items()}
    nothing = np.full((2, 8), IGNORED, dtype="int32")
    told = loaded.signatures["train_step"](
        input_ids=tf.constant(np.zeros((2, 8), "int32")), targets=tf.constant(nothing), learning_rate=tf.constant(0.1)
    )
    assert np.isnan(float(told["loss"])) and int(told["step"]) == 0
    assert all(np.array_equal(before[name], variable.numpy()) for name, variable in loaded.weights.items())


@pytest.mark.parametrize(("change", "message"), [
    ({"model": None}, "does not say what shape the model has"),
    ({"model": {"width": 32}}, "guiju.json: model"),
    ({"width": 64, "hidden": 256, "head_width": 16}, r"the weight .* has the shape .* They do not belong together"),
    ({"kind": "encoder"}, "names a model of kind encoder"),
])  # fmt: skip
def test_weights_that_do_not_fit_are_refused(change, message, tensorflow, tokenizer, tmp_path):
    saved = shutil.copytree(_export(_model("gpt2"), tokenizer, tmp_path), tmp_path / "changed")
    facts = json.loads((saved / "guiju.json").read_text())
    if "model" in change:
        facts = {**facts, **change}
        if facts["model"] is None:
            del facts["model"]
    else:
        facts["model"] |= change
    (saved / "guiju.json").write_text(json.dumps(facts))
    with pytest.raises(ModelError, match=message):
        export_model(f"tf:{saved}", to="huggingface", out=tmp_path / "out")
