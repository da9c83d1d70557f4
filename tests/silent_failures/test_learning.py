"""Runs that would look like training and learn nothing, or something else: each fault is planted, and stops the run.

The same run without the fault goes through: that is the other half of each test.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

from tuning import make_rows, make_tuned, make_tuning_examples
from worlds import FixedBatches, make_settings

from guiju.errors import DataError, ModelError, TrainingError
from guiju.model import AdapterBase, LoraSettings, add_lora, load_peft, save_peft, weights_digest
from guiju.tokens import IGNORED, AnswerExamples, BucketedBatches, LearnedRow
from guiju.training import label_objectives, loop, train
from guiju.training.effect import WATCHED_UPDATES
from guiju.training.label_objectives import Classes
from guiju.training.objectives import make_objective


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Changed:
    """Batches as they come, each changed."""

    def __init__(self, way: str, change=lambda batch: batch, batch: int = 8) -> None:
        self._batches, self._change = BucketedBatches(make_tuning_examples(way), batch=batch, seed=1), change
        self.state, self.restore, self.identity = self._batches.state, self._batches.restore, self._batches.identity

    def next(self):
        return self._change(self._batches.next())


def run(tmp_path, way: str = "answers", model=None, change=lambda batch: batch, **settings):
    settings = make_settings(objective=way, **{"evaluate_every": 0, **settings})
    return train(make_tuned(way) if model is None else model, Changed(way, change), settings, folder=tmp_path)


@pytest.mark.parametrize("way", ["answers", "classes", "token-classes", "extractive", "preferences"])
def test_without_a_fault_each_run_goes_through(way, tmp_path):
    assert run(tmp_path, way).steps == 12


# -- weights ----------------------------------------------------------------------------------------------------


def test_no_trainable_weight(tmp_path):
    with pytest.raises(TrainingError, match="no weight of the model is trainable"):
        run(tmp_path, model=make_tuned("answers").requires_grad_(False))
    with pytest.raises(TrainingError, match="leave no weight that moves"):
        run(tmp_path, freeze=("*",))


def test_weights_that_do_not_change(tmp_path, monkeypatch):
    """The optimizer holds copies, as it does where a model is moved or cast after it was made."""

    def of_copies(model, settings):
        optimizer = real(model, settings)
        for group in optimizer.param_groups:
            group["params"] = [torch.nn.Parameter(weight.detach().clone()) for weight in group["params"]]
        return optimizer

    real = loop.make_optimizer
    monkeypatch.setattr(loop, "make_optimizer", of_copies)
    with pytest.raises(TrainingError, match=f"no weight moved in {WATCHED_UPDATES} updates"):
        run(tmp_path)


def test_a_rate_at_which_weights_stay_as_they_are(tmp_path):
    with pytest.raises(TrainingError, match="no weight moved in"):
        run(tmp_path, learning_rate=1e-30, weight_decay=0.0)


def test_an_adapter_that_no_gradient_reaches(tmp_path):
    model = make_tuned("answers")
    add_lora(model, LoraSettings())
    adapter = model.layers[1].attention.to_value
    adapter.active = False  # as if it had not been put into the model's way
    with pytest.raises(TrainingError, match=r"no gradient reached layers\.1\.attention\.to_value\.down"):
        run(tmp_path, model=model)


def test_a_frozen_base_that_moves_all_the_same(tmp_path):
    model = make_tuned("answers")
    add_lora(model, LoraSettings())

    def nudge(batch):
        with torch.no_grad():
            model.layers[0].attention.to_query.base.weight += 1e-3
        return batch

    with pytest.raises(TrainingError, match=r"layers\.0\.attention\.to_query\.base\.weight changed in"):
        run(tmp_path, model=model, change=nudge)


# -- masks ------------------------------------------------------------------------------------------------------


def test_a_mask_that_is_empty(tmp_path):
    nothing = [LearnedRow(row.ids, [False] * len(row.ids), row.place) for row in make_rows("answers")]
    with pytest.raises(DataError, match="no token of row 0 is learned"):
        AnswerExamples(nothing, context=32, pad=0)
    with pytest.raises(TrainingError, match="no token of step 1 has a target"):
        run(tmp_path, change=lambda batch: replace(batch, targets=torch.full_like(batch.targets, IGNORED)))


def test_a_mask_that_is_all_ones(tmp_path):
    everything = [LearnedRow(row.ids, [True] * len(row.ids), row.place) for row in make_rows("answers")]
    with pytest.raises(DataError, match="every token of all 60 rows is learned"):
        AnswerExamples(everything, context=32, pad=0)

    def all_ones(batch):
        shortest = int(batch.ids.size(1) if batch.padding is None else batch.padding.sum(dim=1).min())
        ids = batch.ids[:, :shortest]
        following = torch.cat((ids[:, 1:], torch.full_like(ids[:, :1], 5)), dim=1)
        return replace(batch, ids=ids, targets=following, padding=None)

    with pytest.raises(TrainingError, match="the mask is all ones"):
        run(tmp_path, change=all_ones, steps=40)


@pytest.mark.parametrize("places", [-1, 1])
def test_targets_shifted_twice_or_not_at_all(places, tmp_path):
    with pytest.raises(TrainingError, match="a target is not the token that follows its place"):
        run(tmp_path, change=lambda batch: replace(batch, targets=batch.targets.roll(places, dims=1)))


# -- labels and places ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["classes", "token-classes"])
@pytest.mark.parametrize("label", [3, -1])
def test_a_label_outside_the_head(way, label, tmp_path):
    def wrong(batch):
        targets = batch.targets.clone()
        targets[-1] = torch.where(targets[-1] == IGNORED, targets[-1], label)
        return replace(batch, targets=targets)

    with pytest.raises(TrainingError, match=rf"a target has the label number {label}, but the model's head has 3"):
        run(tmp_path, way, change=wrong)


def test_an_answer_outside_its_row(tmp_path):
    with pytest.raises(TrainingError, match="lies outside its row"):
        run(tmp_path, "extractive", change=lambda batch: replace(batch, targets=batch.targets + 400))
    with pytest.raises(TrainingError, match="ends before it begins"):
        run(tmp_path, "extractive", change=lambda batch: replace(batch, targets=batch.targets.flip(1)))


def test_windows_none_of_which_holds_an_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(label_objectives, "ENOUGH_WINDOWS", 40)
    with pytest.raises(TrainingError, match="none of 40 windows holds an answer"):
        run(tmp_path, "extractive", change=lambda batch: replace(batch, targets=torch.zeros_like(batch.targets)))


# -- preferences ------------------------------------------------------------------------------------------------


def test_preferences_without_a_reference(tmp_path):
    with pytest.raises(TrainingError, match="do not say what the reference model holds"):
        run(tmp_path, "preferences", change=lambda batch: replace(batch, reference=None))


def test_preferences_whose_answers_are_the_same(tmp_path):
    def same(batch):
        ids, targets = batch.ids.clone(), batch.targets.clone()
        ids[1::2], targets[1::2] = ids[0::2], targets[0::2]
        return replace(batch, ids=ids, targets=targets)

    with pytest.raises(TrainingError, match="both answers of every pair are the same"):
        run(tmp_path, "preferences", change=same)


# -- the scale of the loss --------------------------------------------------------------------------------------


def of_means(objective):
    """The same objective with the mean as its loss: accumulation would divide by the number of parts once more."""

    class Means(type(objective)):
        def loss(self, model, hidden, batch):
            return super().loss(model, hidden, batch) / self.weigh(batch)

    fields = {name: getattr(objective, name) for name in objective.__dataclass_fields__}
    return Means(**fields)


@pytest.mark.parametrize("way", ["answers", "classes", "token-classes", "extractive", "preferences"])
def test_accumulation_that_changes_the_scale_of_the_loss(way, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "make_objective", lambda *given: of_means(make_objective(*given)))
    with pytest.raises(TrainingError, match=r"the loss of \d rows is .* in two parts .* must give sums, not means"):
        run(tmp_path, way, accumulate=4)


def test_a_weight_that_does_not_add_up(tmp_path, monkeypatch):
    class Ones(Classes):
        def weigh(self, batch):
            return 1.0

    monkeypatch.setattr(loop, "make_objective", lambda settings, config: Ones(labels=config.labels))
    with pytest.raises(TrainingError, match=r"the weight of 4 rows is 1, but of the same rows in two parts 1 and 1"):
        run(tmp_path, "classes", accumulate=4)


def test_looking_at_the_scale_changes_no_bit(tmp_path, monkeypatch):
    ends = []
    for name in ("watched", "unwatched"):
        model = make_tuned("answers", dropout=0.1)
        run(tmp_path / name, model=model)
        ends.append([weight.detach().clone() for weight in model.parameters()])
        monkeypatch.setattr(loop, "require_sums", lambda *given: None)
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))


# -- adapters ---------------------------------------------------------------------------------------------------


def test_an_adapter_of_another_base(tmp_path):
    base = make_tuned("answers")
    digest = weights_digest(base)
    add_lora(base, LoraSettings())
    save_peft(base, tmp_path, AdapterBase("runs/one", digest))
    other = make_tuned("answers")
    assert load_peft(other, tmp_path).digest == digest
    other = make_tuned("answers")
    with torch.no_grad():
        other.layers[0].mlp.to_hidden.weight[0, 0] += 1e-3
    with pytest.raises(ModelError, match=r"the adapter in .* was made for runs/one .* would mean nothing here"):
        load_peft(other, tmp_path)


def test_one_batch_of_one_row_goes_through(tmp_path):
    batch = BucketedBatches(make_tuning_examples("answers"), batch=1, seed=1).next()
    settings = make_settings(objective="answers", evaluate_every=0)
    assert train(make_tuned("answers"), FixedBatches(batch), settings, folder=tmp_path).steps == 12
