"""The training loop: one for every objective and every shape of model.

A step: read `accumulate` batches, add up their gradients, clip, update, log; now and then evaluate and save. What is
saved at a step is all that the next one depends on, so a run that was killed anywhere ends in the same bits as one
that was not; weights that do not move are not saved, but a digest says which they were.

However a step's data is cut into batches, its gradient is the same: an objective gives sums, which `require_sums` looks
at once, and each is divided by one number, what all batches of the step weigh together.
"""

from __future__ import annotations

import math
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from guiju import device as devices
from guiju.errors import GuijuError, TrainingError
from guiju.model import AnyModel
from guiju.storage import require_free_space, write_bytes
from guiju.tokens import Batch
from guiju.training import checkpoints
from guiju.training.arithmetic import choose_dtype, choose_library
from guiju.training.effect import EffectCheck, require_sums
from guiju.training.identity import differences, require_fit, require_same_run, run_facts
from guiju.training.lines import BITS_PER_BYTE, Lines, evaluations, plain_number
from guiju.training.moving import memory_tensors, random_states, restore_random, restore_tensors
from guiju.training.objectives import make_objective
from guiju.training.optimizer import make_optimizer, set_rate
from guiju.training.progress import Pace, progress_line
from guiju.training.result import Batches, OnEvent, Report, TrainingResult
from guiju.training.selection import only_selected, trainable
from guiju.training.settings import TrainingSettings, learning_rate
from guiju.training.stopping import Cut, StopSignals, TrainingInterrupted


@dataclass(frozen=True)
class Place:
    """Where a step began: what to go back to when it is not finished."""

    batches: dict[str, int]
    random: dict[str, Tensor]


def train(
    model: AnyModel,
    batches: Batches,
    settings: TrainingSettings,
    *,
    folder: Path,
    evaluate: Callable[[AnyModel], float] | None = None,
    measure: str = BITS_PER_BYTE,
    on_event: OnEvent | None = None,
    report: Report | None = None,
    flops_per_token: float | None = None,
    peak_flops: float | None = None,
    energy_kwh: Callable[[], float] | None = None,
) -> TrainingResult:
    """Train the model in place, going on from the newest whole checkpoint in `folder` if there is one.

    Args:
        model: with its first weights; they are replaced where training goes on from a checkpoint.
        batches: made as in every run that shares the folder.
        folder: for checkpoints, train_log.jsonl and timing.jsonl.
        evaluate: model -> how well it does on held-out data; less is better.
        measure: what that is, as the log and the events call it.
        on_event: called with a name ("started", "resumed", "notice", "step-skipped", "evaluation", "checkpoint",
            "interrupted", "finished") and plain facts.
        report: called after each step with (steps done, steps in all, a line for the screen).
        flops_per_token: forward and backward, for the share of the machine's peak; None leaves that out.
        peak_flops: matrix peak of the machine in FLOP/s; measured where it is not given.
        energy_kwh: energy used so far.
    Raises:
        CheckpointError: every checkpoint is damaged, or the newest belongs to other settings, data, frozen weights or
            another shape.
        ConfigError: the model cannot learn so, or does not fit the data; a pattern of weights names none.
        TrainingError: the loss was not finite too often, nothing is to be learned, or no weight moves.
        StorageError: there is no room for checkpoints.
        TrainingInterrupted: SIGTERM or SIGINT came; a checkpoint was written.
    """
    run = _Run(model, batches, settings, Path(folder), evaluate, on_event, report)
    run.measure = measure
    run.flops_per_token, run.peak_flops, run.energy_kwh = flops_per_token, peak_flops, energy_kwh
    with ExitStack() as stack:
        devices_used = [run.device] if run.device.type == "cuda" else []
        stack.enter_context(torch.random.fork_rng(devices=devices_used))
        stack.enter_context(only_selected(model, settings))
        signals = stack.enter_context(StopSignals())
        run.start()
        stack.callback(run.close)
        stack.enter_context(devices.float32_products(run.library))
        return run.go(signals)


class _Run:
    """One process's part of a training run."""

    flops_per_token: float | None
    peak_flops: float | None
    energy_kwh: Callable[[], float] | None
    measure: str

    def __init__(
        self,
        model: AnyModel,
        batches: Batches,
        settings: TrainingSettings,
        folder: Path,
        evaluate: Callable[[AnyModel], float] | None,
        on_event: OnEvent | None,
        report: Report | None,
    ) -> None:
        self.model, self.batches, self.settings, self.folder = model, batches, settings, folder
        self.evaluate, self.on_event, self.report = evaluate, on_event, report
        self.objective = make_objective(settings, model.config)
        self.device = devices.pick_device(settings.device)
        self.step = self.tokens = self.skipped = 0
        self.evaluated = True  # whether this step's evaluation, if one is due, is in the log
        self.final_loss: float | None = None
        self.saved_step: int | None = None
        self.resumed_from: int | None = None
        self.bit_exact = True
        self.sums = False  # whether the objective was seen to give sums
        self.notices: list[str] = []

    # -- beginning and going on --------------------------------------------------------------------------------

    def start(self) -> None:
        """Make ready to compute the step after `self.step`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        checkpoints.clean_up(self.folder)
        self.model.to(self.device).train()
        self.model.activation_checkpointing = self.settings.activation_checkpointing
        torch.manual_seed(self.settings.seed)
        found = checkpoints.newest_checkpoint(self.folder)
        manifest = None if found is None else found.manifest
        self.dtype = choose_dtype(self.settings, self.device, manifest)
        self.library = choose_library(self.device, manifest)
        self.compiled = self._compiles()
        self._hidden: Callable[..., Tensor] = self.model.hidden
        if self.compiled:
            with quiet():
                # None: what comes in a second size is compiled once more, for all sizes.
                dynamic = None if self.objective.widths_vary else False
                self._hidden = torch.compile(self.model.hidden, dynamic=dynamic)
        self.optimizer = make_optimizer(self.model, self.settings)
        data = dict(self.batches.identity())
        require_fit(self.model.config, data)
        arithmetic = {"compiled": self.compiled, "float32_library": self.library}
        self.facts = run_facts(self.model, data, self.settings, self.device, self.dtype, arithmetic)
        if found is None:
            self._require_space()
            write_bytes(self.log_path, b"")
            self._event("started", {"dtype": self.dtype, "compiled": self.compiled, **self.facts})
        else:
            self._resume(found)
        self.effect = EffectCheck(self.model)
        self.weights = list(trainable(self.model).values())
        self.log = Lines(self.log_path)
        self.timing = Lines(self.timing_path)

    def close(self) -> None:
        self.log.close()
        self.timing.close()

    @property
    def log_path(self) -> Path:
        return self.folder / checkpoints.LOG

    @property
    def timing_path(self) -> Path:
        return self.folder / "timing.jsonl"

    def _compiles(self) -> bool:
        if not self.settings.compile:
            return False
        if self.device.type == "cpu" and not devices.has_cpp_compiler():
            self._notice("no C++ compiler was found (g++, or what CXX names): training goes on uncompiled, only slower")
            return False
        return True

    def _resume(self, found: checkpoints.Found) -> None:
        for reason in found.passed_over:
            self._notice(
                f"a damaged checkpoint was passed over and put aside ({reason}); going on from {found.folder.name}"
            )
        require_same_run(found.manifest, self.facts, found.folder)
        self._compare_environment(found)
        snapshot = checkpoints.load_checkpoint(found)
        restore_tensors(self.model, self.optimizer, self.device, snapshot.model, snapshot.optimizer)
        state = snapshot.state
        self.batches.restore(state["batches"])
        self.step, self.tokens, self.skipped = snapshot.step, state["tokens"], state["skipped"]
        self.evaluated, self.final_loss = snapshot.evaluated, state["final_loss"]
        self.saved_step = self.resumed_from = self.step
        write_bytes(self.log_path, snapshot.log)
        self._event("resumed", {"step": self.step, "checkpoint": found.folder.name, "bit_exact": self.bit_exact})

    def _compare_environment(self, found: checkpoints.Found) -> None:
        saved, mine = found.manifest["environment"], self.facts["environment"]
        self.bit_exact = bool(found.manifest["bit_exact"]) and saved == mine
        if saved != mine:
            self._notice(
                f"not bit-exact: {found.folder.name} was made under {differences(saved, mine)}; the result is as good, "
                "but not the same to the last bit as without the change"
            )

    def _require_space(self) -> None:
        weights = sum(weight.numel() * weight.element_size() for weight in trainable(self.model).values())
        one = 3 * weights + (1 << 20)
        require_free_space(self.folder, one * (self.settings.keep + 1), f"{self.settings.keep + 1} checkpoints")

    # -- steps -------------------------------------------------------------------------------------------------

    def go(self, signals: StopSignals) -> TrainingResult:
        """All steps that are left."""
        if self.flops_per_token is not None and self.peak_flops is None:
            self.peak_flops = devices.matrix_peak_flops(self.device, getattr(torch, self.dtype))
        self.pace = Pace()
        while self.step < self.settings.steps or not self.evaluated:
            before = Place(self.batches.state(), random_states(self.device))
            try:
                measured = None if self.evaluated else self._evaluate(signals)
                found = self._gradients(signals) if measured is None else None
            except Cut:
                self._stop(before, signals)
            except Exception as error:
                if isinstance(error, GuijuError):
                    raise
                if signals.received is not None:  # a library turned the cut into an error of its own
                    self._stop(before, signals)
                if not self._may_be_the_compiler:
                    raise
                self._give_up_compiling(error, before)
                continue
            if measured is not None:
                self._note_evaluation(measured)
            if found is not None:
                self._update(*found)
            if self.evaluated and (self._due(self.settings.checkpoint_every) or self.step == self.settings.steps):
                self._save()
        if signals.received is not None:
            self._interrupt(checkpoints.checkpoint_path(self.folder, self.step), signals.received)
        return self._finish()

    @property
    def _may_be_the_compiler(self) -> bool:
        first = self.step == (self.resumed_from or 0)
        return self.compiled and (first or self.objective.widths_vary)

    def _gradients(self, signals: StopSignals) -> tuple[float, float, int]:
        """The gradient of the mean loss over all that a step learns; its loss (mean nats), norm, and targets."""
        with signals.cuttable(), quiet() if self._may_be_the_compiler else nullcontext():
            parts = [self.batches.next() for _ in range(self.settings.accumulate)]
            targets = sum(part.target_count for part in parts)
            if targets == 0:
                raise TrainingError(
                    f"no token of step {self.step + 1} has a target: each is masked, so there is nothing to learn. "
                    "Check the loss mask and the data."
                )
            self.objective.check(parts)
            if not self.sums:
                require_sums(self.objective, self.model, parts[0].to(self.device))
                self.sums = True
            weight = sum(self.objective.weigh(part) for part in parts)
            self.optimizer.zero_grad(set_to_none=True)
            total = torch.zeros((), device=self.device)
            for part in parts:
                loss = self._loss(part.to(self.device)) / weight
                torch.autograd.backward(loss)
                total += loss.detach()
            norm = torch.nn.utils.clip_grad_norm_(self.weights, self.settings.clip_norm, foreach=True)
            return float(total), float(norm), targets

    def _loss(self, batch: Batch) -> Tensor:
        if not self.compiled:
            batch = batch.without_idle_masks()
        elif self.objective.widths_vary:
            batch = batch.with_padding()
        with self._autocast():
            return self.objective.loss(self.model, self._hidden, batch)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.dtype == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=getattr(torch, self.dtype))

    def _update(self, loss: float, norm: float, targets: int) -> None:
        """Move the weights, unless what would move them is not a finite number; log either way."""
        rate = learning_rate(self.step, self.settings)
        finite = math.isfinite(loss) and math.isfinite(norm)
        last = self.step + 1 == self.settings.steps
        if finite:
            if not self.effect.done:
                self.effect.see_gradients()
            set_rate(self.optimizer, rate)
            self.optimizer.step()
            self.final_loss = loss
            self.tokens += targets
            if not self.effect.done:
                self.effect.see_update()
        else:
            self.skipped += 1
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.evaluated = self.evaluate is None or not (last or self._due(self.settings.evaluate_every))
        line: dict[str, Any] = {"step": self.step, "learning_rate": rate, "targets": targets, "skipped": not finite}
        line |= {"loss": plain_number(loss), "gradient_norm": plain_number(norm)}
        self.log.write(line)
        self._tell(loss if finite else None, targets)
        if not finite:
            self._skip(line)

    def _skip(self, line: dict[str, Any]) -> None:
        self._event("step-skipped", line)
        if self.skipped > self.settings.max_skipped:
            raise TrainingError(
                f"{self.skipped} steps had a loss or gradient that is not a finite number (the last, step "
                f"{self.step}, loss {line['loss']}, norm {line['gradient_norm']}), and training.max_skipped is "
                f"{self.settings.max_skipped}. Lower training.learning_rate, or look for broken data."
            )

    def _evaluate(self, signals: StopSignals) -> float:
        assert self.evaluate is not None
        started = time.perf_counter()
        try:
            with signals.cuttable():
                return self.evaluate(self.model)
        finally:
            self.model.train()
            self.pace.exclude(time.perf_counter() - started)

    def _note_evaluation(self, found: float) -> None:
        self.log.write({"step": self.step, self.measure: plain_number(found)})
        self.evaluated = True
        self._event("evaluation", {"step": self.step, self.measure: plain_number(found)})

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _give_up_compiling(self, error: Exception, before: Place) -> None:
        """The compiler is there but does not work (no headers, say): the same step again, without it."""
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:120]
        self._notice(f"torch.compile failed ({reason}); training goes on uncompiled, only slower")
        self.compiled, self._hidden = False, self.model.hidden
        self.facts["environment"]["compiled"] = False
        self._go_back(before)

    # -- saving and stopping -----------------------------------------------------------------------------------

    def _save(self) -> Path:
        started = time.perf_counter()
        self.log.flush()
        self.timing.flush()
        snapshot = checkpoints.Snapshot(
            step=self.step,
            evaluated=self.evaluated,
            state={
                "tokens": self.tokens,
                "skipped": self.skipped,
                "final_loss": self.final_loss,
                "batches": self.batches.state(),
            },
            model=dict(trainable(self.model)),
            optimizer=memory_tensors(self.model, self.optimizer, self.device),
            log=self.log_path.read_bytes(),
        )
        path = checkpoints.save_checkpoint(self.folder, snapshot, {**self.facts, "bit_exact": self.bit_exact})
        self.saved_step = self.step
        removed = checkpoints.remove_old(self.folder, self.settings.keep, path)
        self.pace.exclude(time.perf_counter() - started)
        self._event("checkpoint", {"step": self.step, "folder": path.name, "removed": [old.name for old in removed]})
        return path

    def _stop(self, before: Place, signals: StopSignals) -> NoReturn:
        """Drop what was being computed, save the last whole step, and say how to go on."""
        assert signals.received is not None
        self._go_back(before)
        path = checkpoints.checkpoint_path(self.folder, self.step, self.evaluated)
        self._interrupt(path if self.saved_step == self.step else self._save(), signals.received)

    def _interrupt(self, path: Path, received: signal.Signals) -> NoReturn:
        self._event("interrupted", {"step": self.step, "signal": received.name})
        raise TrainingInterrupted(
            f"training stopped by {received.name} after step {self.step} of {self.settings.steps}; {path} holds all of "
            "it. Run the same command again to go on from there.",
            step=self.step,
            checkpoint=path,
        )

    def _go_back(self, before: Place) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.batches.restore(before.batches)
        restore_random(before.random, self.device)

    # -- telling -----------------------------------------------------------------------------------------------

    def _tell(self, loss: float | None, targets: int) -> None:
        seconds = self.pace.step(targets)
        self.timing.write({"step": self.step, "seconds": round(seconds, 6)})
        if self.report is not None:
            energy = None if self.energy_kwh is None else self.energy_kwh()
            share = self._peak_share(self.pace.tokens_per_second)
            line = progress_line(loss, self.pace, self.settings.steps - self.step, share, energy, self.objective.unit)
            self.report(self.step, self.settings.steps, line)

    def _peak_share(self, tokens_per_second: float) -> float | None:
        if self.flops_per_token is None or not self.peak_flops:
            return None
        return tokens_per_second * self.flops_per_token / self.peak_flops

    def _notice(self, text: str) -> None:
        self.notices.append(text)
        self._event("notice", {"text": text})

    def _event(self, name: str, facts: dict[str, Any]) -> None:
        if self.on_event is not None:
            self.on_event(name, facts)

    def _finish(self) -> TrainingResult:
        if self.tokens == 0:
            raise TrainingError(f"all {self.skipped} steps were skipped, so nothing was learned; see {self.log_path}")
        if not self.effect.done:
            self.effect.judge()
        pace = self.pace
        speed = pace.tokens / pace.seconds if pace.seconds else 0.0
        result = TrainingResult(
            steps=self.step,
            tokens=self.tokens,
            skipped=self.skipped,
            seconds=pace.seconds,
            tokens_per_second=speed,
            flops=None if self.flops_per_token is None else self.flops_per_token * pace.tokens,
            peak_share=self._peak_share(speed) if pace.seconds else None,
            final_loss=self.final_loss,
            evaluations=evaluations(self.log_path, self.measure),
            log=self.log_path,
            timing=self.timing_path,
            checkpoint=checkpoints.checkpoint_path(self.folder, self.step),
            resumed_from=self.resumed_from,
            bit_exact=self.bit_exact,
            dtype=self.dtype,
            compiled=self.compiled,
            notices=tuple(self.notices),
        )
        facts = {"steps": self.step, "tokens": self.tokens, "skipped": self.skipped, "loss": self.final_loss}
        self._event("finished", facts)
        return result


@contextmanager
def quiet() -> Iterator[None]:
    """While torch compiles: it warns of its own deprecated parts, which no user can mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
