"""Kills training at random moments, lets it go on, and compares what it ends with to an undisturbed run, bit for bit.

Run as a program: it imports torch once and forks a child a life, so that a kill costs what training costs, not what
Python's start costs. Prints a line of JSON a trial. Three quarters of the runs are killed from outside, a random time
after a random step; a quarter kill themselves inside a save: the child counts what touches the disk there, and dies
before, after or half-way through the k-th such call.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: a pool of threads would not survive a fork

import safetensors.torch
import torch
import torch._dynamo  # every optimizer imports it: once here, not in each child
from worlds import (
    CONTEXT,
    EXAMPLES,
    make_batches,
    make_example_batches,
    make_examples,
    make_settings,
    make_shape,
    open_side,
)

from guiju.tokens import BucketedBatches, PackedBatches, Tokenizer
from guiju.training import (
    checkpoints,
    evaluate_bits_per_byte,
    evaluation_batches,
    make_objective,
    moving,
    score_targets,
    train,
)

STEPS = 30
VARIANTS = {
    "dropout": ({"shape": "gpt2", "dropout": 0.1}, {"steps": STEPS, "checkpoint_every": 5, "evaluate_every": 7}),
    "accumulate": ({"shape": "llama"}, {"steps": STEPS, "accumulate": 2, "checkpoint_every": 6, "keep": 1}),
    "masked": ({"shape": "bert", "dropout": 0.1}, {"steps": STEPS, "checkpoint_every": 5, "evaluate_every": 7}),
    "pairs": ({"shape": "transformer", "dropout": 0.1}, {"steps": STEPS, "objective": "pairs", "checkpoint_every": 6}),
    "spans": ({"shape": "t5"}, {"steps": STEPS, "accumulate": 2, "checkpoint_every": 5, "keep": 1}),
}
COMPARED = ("model.safetensors", "optimizer.safetensors", "state.json", "train_log.jsonl", "manifest.json")


class SaveCounter:
    """Counts the points inside saves at which the disk is touched, and kills this process at one of them."""

    def __init__(self, kill_at: int | None) -> None:
        self.kill_at, self.points, self._inside = kill_at, 0, 0
        for module, name in ((checkpoints, "save_checkpoint"), (checkpoints, "remove_old")):
            setattr(module, name, self._entered(getattr(module, name)))
        for name in ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir"):
            setattr(os, name, self._watched(getattr(os, name)))
        safetensors.torch.save_file = self._torn(safetensors.torch.save_file)

    def point(self) -> bool:
        """Count a point; whether to die at it."""
        if not self._inside:
            return False
        self.points += 1
        return self.points == self.kill_at

    def _entered(self, function: Callable) -> Callable:
        def call(*arguments, **keywords):
            self._inside += 1
            try:
                return function(*arguments, **keywords)
            finally:
                self._inside -= 1

        return call

    def _watched(self, function: Callable) -> Callable:
        def call(*arguments, **keywords):
            if self.point():
                die()
            result = function(*arguments, **keywords)
            if self.point():
                die()
            return result

        return call

    def _torn(self, function: Callable) -> Callable:
        def call(tensors, file, *rest):
            function(tensors, file, *rest)
            if self.point():
                os.truncate(file, Path(file).stat().st_size // 2)
                die()

        return call


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def forget(what: str) -> None:
    """Break the resume of this process, to show that the comparison notices."""
    if what == "generators":
        moving.restore_random = lambda *_: None
    elif what == "position":
        PackedBatches.restore = BucketedBatches.restore = lambda *_: None
    elif what == "memory":
        moving.restore_optimizer = lambda *_: None


def learning(world: Path, shape: str, settings, model) -> tuple:
    """What a shape learns from, and its evaluation."""
    if shape not in EXAMPLES:
        tokenizer, held_out = Tokenizer.load(world / "tokenizer"), open_side(world, "validation")
        sizes = tokenizer.bytes_per_token
        evaluate = lambda model: evaluate_bits_per_byte(model, held_out, sizes, context=CONTEXT, max_rows=4)  # noqa: E731
        return make_batches(world), evaluate
    kind, objective = EXAMPLES[shape], make_objective(settings, model.config)
    rows = evaluation_batches(make_examples(world, kind, "validation"), batch=4, max_rows=8)
    return make_example_batches(
        world, kind, batch=4
    ), lambda model: score_targets(model, objective, rows, [1] * 300).bits_per_byte


def live(
    world: Path,
    folder: Path,
    variant: str,
    kill_at: int | None = None,
    count_to: int | None = None,
    steps_to: int | None = None,
) -> None:
    """One life of a training process.

    It writes a byte a step to the descriptor `steps_to`, and at its end the points it passed to `count_to`.
    """
    torch.set_num_threads(1)
    shape, changes = VARIANTS[variant]
    counter = SaveCounter(kill_at) if kill_at is not None or count_to is not None else None
    settings, model = make_settings(**changes), make_shape(**shape)
    batches, evaluate = learning(world, shape["shape"], settings, model)

    def report(done: int, total: int, line: str) -> None:
        if steps_to is not None:
            os.write(steps_to, b".")

    train(model, batches, settings, folder=folder, evaluate=evaluate, report=report)
    if counter is not None and count_to is not None:
        os.write(count_to, str(counter.points).encode())


def fork(target: Callable[[], None]) -> int:
    """A child that runs `target` and ends; its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        target()
        code = 0
    except BaseException as error:
        print(f"child: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def digest(folder: Path) -> str:
    """One digest over all that training ends with: weights, optimizer, generators, place in the data, log."""
    last = folder / f"step-{STEPS:08d}"
    parts = [hashlib.sha256((last / name).read_bytes()).hexdigest() for name in COMPARED]
    parts.append(hashlib.sha256((folder / "train_log.jsonl").read_bytes()).hexdigest())
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


class Harness:
    """References of each variant, and trials against them."""

    def __init__(self, world: Path, folder: Path, forgotten: str = "", variants: str = "dropout,accumulate") -> None:
        self.world, self.folder, self.forgotten = world, folder, forgotten.split(",")
        self.variants = variants.split(",")
        self.reference: dict[str, tuple[str, float, int]] = {}
        for variant in self.variants:
            reader, writer = os.pipe()
            place = folder / f"reference-{variant}"
            started = time.perf_counter()
            self._end(fork(lambda v=variant, w=writer, p=place: live(world, p, v, count_to=w)))
            seconds = time.perf_counter() - started
            os.close(writer)
            points = int(os.read(reader, 100))
            os.close(reader)
            self.reference[variant] = (digest(place), seconds, points)

    def trial(self, number: int, seed: int, kills: int, inside: bool) -> dict:
        """A run that is killed `kills` times; whether it ended as the undisturbed one."""
        draw = random.Random(f"{seed}-{number}")
        variant = draw.choice(self.variants)
        expected, seconds, points = self.reference[variant]
        place = self.folder / f"trial-{number}"
        done, lives, where = 0, 0, []
        while done < kills:
            lives += 1
            assert lives < 50 * kills, "the run always ends before it is killed"
            left = STEPS - self._progress(place)
            if inside:
                kill_at = draw.randint(1, max(1, points * left // STEPS))
                status = os.waitpid(fork(lambda k=kill_at: live(self.world, place, variant, kill_at=k)), 0)[1]
                where.append(f"point {kill_at}")
            else:
                steps, delay = draw.randint(0, left), 2 * draw.random() * seconds / STEPS
                status = self._kill_after(lambda w: live(self.world, place, variant, steps_to=w), steps, delay)
                where.append(f"{steps} steps and {delay:.4f} s")
            killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            assert killed or status == 0, f"a child failed with status {status}"
            if killed:
                done += 1
            else:  # it was done before it was killed: that says nothing, so begin anew
                shutil.rmtree(place)
                done, where = 0, []
        at = self._progress(place)
        forgotten = self.forgotten[number % len(self.forgotten)]
        self._end(fork(lambda: (forget(forgotten), live(self.world, place, variant))))
        found = digest(place)
        left_over = [path.name for path in place.iterdir() if path.name.startswith(".")]
        shutil.rmtree(place)
        facts = {"trial": number, "variant": variant, "inside": inside, "kills": where, "resumed_from": at}
        return {**facts, "forgotten": forgotten, "identical": found == expected, "left_over": left_over}

    @staticmethod
    def _kill_after(target: Callable[[int], None], steps: int, delay: float) -> int:
        """Fork, wait for so many steps and so long, kill; the child's status."""
        reader, writer = os.pipe()
        child = fork(lambda: target(writer))
        os.close(writer)
        while steps > 0 and (got := os.read(reader, steps)):
            steps -= len(got)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        os.close(reader)
        return status

    @staticmethod
    def _progress(place: Path) -> int:
        return max((int(path.name[5:13]) for path in place.glob("step-*")), default=0)

    @staticmethod
    def _end(child: int) -> None:
        status = os.waitpid(child, 0)[1]
        assert status == 0, f"an undisturbed child failed with status {status}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("world", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--single", type=int, default=20, help="runs killed once, a quarter of them inside a save")
    parser.add_argument("--triple", type=int, default=0, help="runs killed three times")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--forget", default="", help="what the last life of the trials does not restore, in turn")
    parser.add_argument("--variants", default="dropout,accumulate", help="what is trained")
    arguments = parser.parse_args()
    harness = Harness(arguments.world, arguments.folder, arguments.forget, arguments.variants)
    for number in range(arguments.single + arguments.triple):
        kills = 1 if number < arguments.single else 3
        print(json.dumps(harness.trial(number, arguments.seed, kills, inside=number % 4 == 0)), flush=True)


if __name__ == "__main__":
    main()
