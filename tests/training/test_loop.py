from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from worlds import (
    CONTEXT,
    FixedBatches,
    fixed_batch,
    make_batches,
    make_model,
    make_settings,
    open_side,
)

from guiju.errors import CheckpointError, ConfigError, StorageError, TrainingError
from guiju.tokens import IGNORED, Batch, Tokenizer
from guiju.training import evaluate_bits_per_byte, learning_rate, train


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def weights_of(model) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("shape", ["gpt2", "llama"])
def test_one_batch_can_be_learned_by_heart(shape, tmp_path):
    settings = make_settings(steps=150, learning_rate=1e-2, weight_decay=0.0, checkpoint_every=0)
    result = train(make_model(shape), FixedBatches(fixed_batch()), settings, folder=tmp_path)
    first = lines(result.log)[0]["loss"]
    assert first == pytest.approx(math.log(300), rel=0.1)
    assert result.final_loss < 0.05


def test_training_on_text_beats_the_untrained_model(world, tmp_path):
    tokenizer, data = Tokenizer.load(world / "tokenizer"), open_side(world, "validation")

    def evaluate(model):
        return evaluate_bits_per_byte(model, data, tokenizer.bytes_per_token, context=CONTEXT)

    model = make_model("llama")
    before = evaluate(model)
    settings = make_settings(steps=60, evaluate_every=20)
    result = train(model, make_batches(world), settings, folder=tmp_path, evaluate=evaluate)
    assert [step for step, _ in result.evaluations] == [20, 40, 60]
    assert result.evaluations[-1][1] == evaluate(model)
    assert result.evaluations[-1][1] < 0.6 * before


def test_the_update_is_adamw_s_by_hand(tmp_path):
    """Three steps of a separate AdamW on plain cross entropy, with clipping by hand, give the same weights."""
    settings = make_settings(steps=3, warmup_steps=1, clip_norm=0.5, checkpoint_every=0)
    batch = fixed_batch()
    model, other = make_model(), make_model()
    train(model, FixedBatches(batch), settings, folder=tmp_path)
    decayed = [w for n, w in other.named_parameters() if w.ndim > 1 and "embedding" not in n]
    rest = [w for n, w in other.named_parameters() if not (w.ndim > 1 and "embedding" not in n)]
    assert decayed and len(rest) > 2
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}],
        betas=(0.9, 0.95),
        foreach=False,
    )
    for step in range(3):
        optimizer.zero_grad()
        F.cross_entropy(other(batch.ids).flatten(0, 1), batch.targets.flatten()).backward()
        norm = torch.sqrt(sum((w.grad**2).sum() for w in other.parameters()))
        for weight in other.parameters():
            weight.grad *= min(1.0, 0.5 / (norm + 1e-6))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, settings)
        optimizer.step()
    for (name, mine), theirs in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5, msg=name)


def test_eight_batches_of_one_equal_one_of_eight_with_ragged_lengths(tmp_path):
    whole = fixed_batch(rows=8)
    for row in range(8):
        whole.targets[row, 3 + 4 * row % CONTEXT :] = IGNORED  # from 3 to 31 targets a row
    parts = [Batch(whole.ids[r : r + 1], whole.targets[r : r + 1], None) for r in range(8)]
    seen = {}
    for name, batches, accumulate in (("one", [whole], 1), ("eight", parts, 8)):
        model = make_model()
        captured = seen.setdefault(name, {})
        for weight_name, weight in model.named_parameters():
            weight.register_post_accumulate_grad_hook(
                lambda w, n=weight_name, c=captured: c.__setitem__(n, w.grad.clone())
            )
        settings = make_settings(steps=1, warmup_steps=0, accumulate=accumulate, clip_norm=1e9)
        train(model, FixedBatches(*batches), settings, folder=tmp_path / name)
        seen[name + " loss"] = lines(tmp_path / name / "train_log.jsonl")[0]["loss"]
    one = torch.cat([gradient.flatten() for gradient in seen["one"].values()])
    eight = torch.cat([seen["eight"][name].flatten() for name in seen["one"]])
    assert (one - eight).norm() / one.norm() <= 1e-6
    assert seen["one loss"] == pytest.approx(seen["eight loss"], rel=1e-6)
    # The control: the mean of the rows' own means, which a loop that weighs passes alike takes, is another gradient.
    model = make_model()
    means = [F.cross_entropy(model(p.ids).flatten(0, 1), p.targets.flatten(), ignore_index=IGNORED) for p in parts]
    (sum(means) / 8).backward()
    wrong = torch.cat([w.grad.flatten() for w in model.parameters()])
    assert (one - wrong).norm() / one.norm() > 1e-2


def test_activation_checkpointing_gives_the_same_bits(world, tmp_path):
    ends = []
    for name, on in (("plain", False), ("again", True)):
        model = make_model(dropout=0.1)
        train(model, make_batches(world), make_settings(activation_checkpointing=on), folder=tmp_path / name)
        ends.append(weights_of(model))
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_bfloat16_trains_with_float32_weights(world, tmp_path):
    model = make_model()
    result = train(model, make_batches(world), make_settings(dtype="bfloat16", steps=30), folder=tmp_path)
    assert result.dtype == "bfloat16"
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert result.final_loss < lines(result.log)[0]["loss"] - 0.5


def test_auto_takes_the_dtype_that_the_machine_is_faster_in(world, tmp_path, monkeypatch):
    from guiju import device

    assert train(make_model(), make_batches(world), make_settings(dtype="auto"), folder=tmp_path / "a").dtype == (
        str(device.fastest_dtype(torch.device("cpu"))).removeprefix("torch.")
    )
    # A run that began in one dtype goes on in it, whatever a later measurement says.
    monkeypatch.setattr(device, "fastest_dtype", lambda _: torch.bfloat16)
    with_bf16 = train(make_model(), make_batches(world), make_settings(dtype="auto"), folder=tmp_path / "b")
    monkeypatch.setattr(device, "fastest_dtype", lambda _: torch.float32)
    again = train(make_model(), make_batches(world), make_settings(dtype="auto"), folder=tmp_path / "b")
    assert with_bf16.dtype == again.dtype == "bfloat16"


def test_the_log_has_a_line_a_step_and_no_time_in_it(world, tmp_path):
    result = train(make_model(), make_batches(world), make_settings(), folder=tmp_path, evaluate=lambda model: 2.5)
    log = lines(result.log)
    assert [line["step"] for line in log if "loss" in line] == list(range(1, 13))
    assert [line["step"] for line in log if "bits_per_byte" in line] == [5, 10, 12]
    assert {key for line in log for key in line} == {
        "step", "loss", "gradient_norm", "learning_rate", "targets", "skipped", "bits_per_byte",
    }  # fmt: skip
    assert [line["step"] for line in lines(result.timing)] == list(range(1, 13))
    assert result.evaluations == ((5, 2.5), (10, 2.5), (12, 2.5))
    assert result.tokens == sum(line["targets"] for line in log if "loss" in line)


def test_two_runs_of_the_same_settings_end_in_the_same_bits(world, tmp_path):
    for name in "ab":
        torch.manual_seed(ord(name))  # the caller's generator must not matter, nor be disturbed
        before = torch.get_rng_state()
        train(make_model_keeping_generator(dropout=0.1), make_batches(world), make_settings(), folder=tmp_path / name)
        assert torch.equal(torch.get_rng_state(), before)
    files = ["step-00000012/model.safetensors", "step-00000012/optimizer.safetensors", "train_log.jsonl"]
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    other = make_settings(seed=1)
    train(make_model(dropout=0.1), make_batches(world), other, folder=tmp_path / "c")
    assert (tmp_path / "c" / files[0]).read_bytes() != (tmp_path / "a" / files[0]).read_bytes()


def make_model_keeping_generator(**changes):
    state = torch.get_rng_state()
    model = make_model(**changes)
    torch.set_rng_state(state)
    return model


def test_a_finished_run_has_nothing_left_to_do(world, tmp_path):
    first = train(make_model(), make_batches(world), make_settings(), folder=tmp_path)
    stamp = first.checkpoint.stat().st_mtime_ns
    model, events = make_model(), []
    again = train(model, make_batches(world), make_settings(), folder=tmp_path, on_event=lambda *e: events.append(e))
    assert (again.resumed_from, again.steps, again.final_loss) == (12, 12, first.final_loss)
    assert [name for name, _ in events] == ["resumed", "finished"]
    assert first.checkpoint.stat().st_mtime_ns == stamp
    saved = load_file(first.checkpoint / "model.safetensors")
    assert all(torch.equal(weight, saved[name]) for name, weight in model.named_parameters())


def test_progress_names_loss_speed_share_time_and_energy(world, tmp_path):
    shown = []
    train(
        make_model(),
        make_batches(world),
        make_settings(),
        folder=tmp_path,
        report=lambda *told: shown.append(told),
        flops_per_token=1e6,
        peak_flops=1e11,
        energy_kwh=lambda: 0.0015,
    )
    assert [(done, total) for done, total, _ in shown] == [(step, 12) for step in range(1, 13)]
    parts = shown[-1][2].split(" · ")
    assert [part.split()[-1] for part in parts] == [parts[0].split()[-1], "tokens/s", "peak", "left", "Wh"]
    assert parts[0].startswith("loss ") and parts[3] == "0:00 left" and parts[4] == "1.50 Wh"


# -- no effect, no claim ---------------------------------------------------------------------------------------


def test_a_batch_without_targets_is_an_error(tmp_path):
    batch = fixed_batch()
    batch.targets[:] = IGNORED
    with pytest.raises(TrainingError, match="no token of step 1 has a target"):
        train(make_model(), FixedBatches(batch), make_settings(), folder=tmp_path)


def test_weights_that_do_not_move_are_an_error(world, tmp_path):
    settings = make_settings(learning_rate=1e-30)
    with pytest.raises(TrainingError, match="no weight moved in 5 updates"):
        train(make_model(), make_batches(world), settings, folder=tmp_path / "a")
    short = make_settings(learning_rate=1e-30, steps=2, warmup_steps=0)
    with pytest.raises(TrainingError, match="no weight moved in 2 updates"):
        train(make_model(), make_batches(world), short, folder=tmp_path / "b")


def test_a_weight_that_no_gradient_reaches_is_named(world, tmp_path):
    model = make_model()
    model.register_parameter("forgotten", torch.nn.Parameter(torch.ones(3)))
    with pytest.raises(TrainingError, match="no gradient reached forgotten in 5 updates"):
        train(model, make_batches(world), make_settings(), folder=tmp_path / "a")
    model.forgotten.requires_grad_(False)
    train(model, make_batches(world), make_settings(), folder=tmp_path / "b")


def test_a_model_with_nothing_to_train_is_an_error(world, tmp_path):
    with pytest.raises(TrainingError, match="no weight of the model is trainable"):
        train(make_model().requires_grad_(False), make_batches(world), make_settings(), folder=tmp_path)


def test_data_that_the_model_cannot_hold_is_refused_before_the_first_step(world, tmp_path):
    with pytest.raises(ConfigError, match="context 64, but the model only has 32"):
        train(make_model(), make_batches(world, context=64), make_settings(), folder=tmp_path)
    with pytest.raises(ConfigError, match="vocab_size 300, but the model only has 299"):
        train(make_model(vocab_size=299), make_batches(world), make_settings(), folder=tmp_path)


# -- numbers that are none -------------------------------------------------------------------------------------


class Poison:
    """Puts a value into one weight's gradient at chosen steps."""

    def __init__(self, model, name: str, steps: set[int], value: float) -> None:
        self.step, self.steps, self.value = 0, steps, value
        dict(model.named_parameters())[name].register_post_accumulate_grad_hook(self)

    def __call__(self, weight) -> None:
        self.step += 1
        if self.step in self.steps:
            weight.grad.view(-1)[self.step % weight.numel()] = self.value


NAMES = [name for name, _ in make_model().named_parameters()]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38])
@pytest.mark.parametrize("name", NAMES[:: max(1, len(NAMES) // 6)])
def test_a_gradient_that_is_no_number_moves_no_weight_and_is_logged(world, tmp_path, value, name):
    """3e38 is finite, but its square is not: the norm overflows."""
    ends = []
    for folder in "ab":
        model, events = make_model(), []
        Poison(model, name, {1, 3, 7}, value)
        settings = make_settings(steps=8, checkpoint_every=0)
        train(
            model, make_batches(world), settings, folder=tmp_path / folder, on_event=lambda *e, to=events: to.append(e)
        )
        assert all(weight.isfinite().all() for weight in model.parameters())
        log = lines(tmp_path / folder / "train_log.jsonl")
        assert [line["step"] for line in log if line["skipped"]] == [1, 3, 7]
        assert [facts["step"] for event, facts in events if event == "step-skipped"] == [1, 3, 7]
        ends.append((tmp_path / folder / "step-00000008" / "model.safetensors").read_bytes())
    assert ends[0] == ends[1]


def test_a_skipped_step_leaves_weights_and_memory_as_they_were(world, tmp_path):
    model, seen = make_model(), []
    Poison(model, "final_norm.weight", {3}, math.nan)
    settings = make_settings(steps=4, checkpoint_every=1, keep=9)
    train(model, make_batches(world), settings, folder=tmp_path)
    for step in (2, 3, 4):
        folder = tmp_path / f"step-{step:08d}"
        seen.append((load_file(folder / "model.safetensors"), load_file(folder / "optimizer.safetensors")))
    for two, three, four in zip(*seen, strict=True):
        assert all(torch.equal(two[name], three[name]) for name in two if "random" not in name)
        assert not all(torch.equal(three[name], four[name]) for name in two)


def test_too_many_skipped_steps_stop_training(world, tmp_path):
    model = make_model()
    Poison(model, "final_norm.weight", {2, 4, 5, 6}, math.nan)
    with pytest.raises(TrainingError, match=r"4 steps had a loss or gradient that is not a finite number.*step 6"):
        train(model, make_batches(world), make_settings(max_skipped=3), folder=tmp_path)
    assert all(weight.isfinite().all() for weight in model.parameters())


def test_a_model_that_is_broken_from_the_start_stops_and_saves_nothing(world, tmp_path):
    model = make_model()
    with torch.no_grad():
        model.final_norm.weight[0] = math.nan
    with pytest.raises(TrainingError, match="loss nan"):
        train(model, make_batches(world), make_settings(max_skipped=2, checkpoint_every=0), folder=tmp_path / "a")
    with pytest.raises(TrainingError, match="all 12 steps were skipped"):
        train(model, make_batches(world), make_settings(max_skipped=99, checkpoint_every=0), folder=tmp_path / "b")


# -- other runs, other machines --------------------------------------------------------------------------------


@pytest.fixture
def half(world, tmp_path):
    """A run that stopped in the middle, at step 8 of 12."""
    stop_at(8, world, tmp_path)
    return tmp_path


class Enough(Exception):
    pass


def stop_at(step: int, world, folder, **changes) -> None:
    def leave(name: str, facts: dict) -> None:
        if name == "checkpoint" and facts["step"] == step:
            raise Enough

    with pytest.raises(Enough):
        train(make_model(), make_batches(world), make_settings(**changes), folder=folder, on_event=leave)


def test_training_goes_on_where_it_stopped_to_the_same_bits(world, half, tmp_path_factory):
    whole = tmp_path_factory.mktemp("whole")
    train(make_model(), make_batches(world), make_settings(), folder=whole)
    result = train(make_model(), make_batches(world), make_settings(), folder=half)
    assert result.resumed_from == 8
    assert result.bit_exact
    assert not result.notices
    for file in ("model.safetensors", "optimizer.safetensors", "state.json", "train_log.jsonl", "manifest.json"):
        assert (half / "step-00000012" / file).read_bytes() == (whole / "step-00000012" / file).read_bytes(), file
    assert (half / "train_log.jsonl").read_bytes() == (whole / "train_log.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 1e-4}, "other training settings .*learning_rate 0.003 then, 0.0001 now"),
        ({"steps": 13}, "steps 12 then, 13 now"),
        ({"seed": 4}, "seed 0 then, 4 now"),
        ({"weight_decay": 0.0}, "weight_decay"),
        ({"clip_norm": 2.0}, "clip_norm"),
        ({"accumulate": 2}, "accumulate"),
        ({"schedule": "wsd"}, "schedule cosine then, wsd now"),
        ({"warmup_steps": 3}, "warmup_steps"),
        ({"beta1": 0.8}, "beta1"),
        ({"dtype": "bfloat16"}, "dtype float32 then, bfloat16 now"),
        ({"evaluate_every": 6}, "evaluate_every"),
        ({"activation_checkpointing": True}, "activation_checkpointing"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(world, half, change, message):
    with pytest.raises(CheckpointError, match=message):
        train(make_model(), make_batches(world), make_settings(**change), folder=half)


def test_a_checkpoint_of_another_model_or_other_data_is_refused(world, half, tmp_path_factory):
    from worlds import make_world

    for model in (make_model(width=64), make_model("llama"), make_model(layers=3), make_model(norm_epsilon=1e-6)):
        with pytest.raises(CheckpointError, match="a model of another shape"):
            train(model, make_batches(world), make_settings(), folder=half)
    for batches in (make_batches(world, batch=2), make_batches(world, seed=4), make_batches(world, context=16)):
        with pytest.raises(CheckpointError, match=r"other data .*then, .*now"):
            train(make_model(), batches, make_settings(), folder=half)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    make_world(elsewhere)
    index = elsewhere / "train" / "index.json"
    index.write_text(index.read_text().replace('"text_bytes": ', '"text_bytes": 1'))
    with pytest.raises(CheckpointError, match="other data"):
        train(make_model(), make_batches(elsewhere), make_settings(), folder=half)


@pytest.mark.parametrize(
    "fact", ["torch", "build", "threads", "machine", "instructions", "cpu_flags", "device", "compiled"]
)
def test_a_changed_environment_is_marked_and_stays_marked(world, half, fact):
    """The manifest is rewritten as if it had been made elsewhere, digest and all."""
    from guiju.training.checkpoints import _digest, _plain

    file = half / "step-00000008" / "manifest.json"
    manifest = json.loads(file.read_text())
    del manifest["digest"]
    manifest["environment"][fact] = "other"
    file.write_bytes(_plain({**manifest, "digest": _digest(manifest)}))
    events = []
    result = train(
        make_model(), make_batches(world), make_settings(), folder=half, on_event=lambda *event: events.append(event)
    )
    assert not result.bit_exact
    assert len(result.notices) == 1
    assert f"not bit-exact: step-00000008 was made under {fact} other then" in result.notices[0]
    assert ("notice", {"text": result.notices[0]}) in events
    later = train(make_model(), make_batches(world), make_settings(), folder=half)
    assert not later.bit_exact


def test_another_number_of_threads_is_noticed(world, half):
    torch.set_num_threads(2)
    try:
        result = train(make_model(), make_batches(world), make_settings(), folder=half)
    finally:
        torch.set_num_threads(1)
    assert "threads 1 then, 2 now" in result.notices[0]


def test_retention_and_the_checkpoint_rhythm_may_change(world, half):
    settings = make_settings(keep=5, checkpoint_every=1, max_skipped=3)
    result = train(make_model(), make_batches(world), settings, folder=half)
    assert result.bit_exact
    assert result.resumed_from == 8
    assert sorted(path.name for path in half.glob("step-*")) == [f"step-{step:08d}" for step in range(8, 13)]


def test_without_room_for_checkpoints_no_step_is_taken(world, tmp_path, monkeypatch):
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    with pytest.raises(StorageError, match="3 checkpoints"):
        train(make_model(), make_batches(world), make_settings(), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


# -- torch.compile ---------------------------------------------------------------------------------------------


def test_without_a_compiler_training_goes_on_with_one_line_of_notice(world, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "/nowhere/c++")
    result = train(make_model(), make_batches(world), make_settings(compile=True), folder=tmp_path)
    assert not result.compiled
    assert len(result.notices) == 1
    assert "no C++ compiler was found" in result.notices[0]
    assert "\n" not in result.notices[0]


def compiled_run(folder: Path, environment: dict[str, str], shape: str = "llama") -> dict:
    """Train with compile=True in a process of its own; what it says on the screen must be nothing."""
    script = Path(__file__).with_name("compiled_child.py")
    environment = {
        **os.environ,
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "cache"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        **environment,
    }
    done = subprocess.run(
        [sys.executable, script, folder, shape], env=environment, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.mark.parametrize("shape", ["llama", "bert"])
def test_a_compiled_run_learns_the_same_without_a_word_on_the_screen(tmp_path, shape):
    found = compiled_run(tmp_path, {}, shape)
    assert found["compiled"]
    assert not found["notices"]
    assert found["loss"] == pytest.approx(found["plain_loss"], rel=1e-4)


def test_with_a_compiler_that_does_not_work_training_goes_on_as_well(tmp_path):
    broken = tmp_path / "c++"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && { echo "g++ (Broken) 12.2.0"; exit 0; }\nexit 1\n')
    broken.chmod(0o755)
    found = compiled_run(tmp_path, {"CXX": str(broken)})
    assert not found["compiled"]
    assert len(found["notices"]) == 1
    assert "torch.compile failed" in found["notices"][0]
    assert found["loss"] == found["plain_loss"]
