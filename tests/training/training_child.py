"""Trains as the command line does: a user's error is one line and exit code 2, a stop is one line and its own code."""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

import torch
from worlds import make_batches, make_model, make_settings

from guiju.errors import GuijuError
from guiju.training import TrainingInterrupted, train
from guiju.training.checkpoints import newest_checkpoint

parser = argparse.ArgumentParser()
parser.add_argument("world", type=Path)
parser.add_argument("folder", type=Path)
parser.add_argument("--steps", type=int, default=12)
parser.add_argument("--limit-after", type=int, default=0, help="after this step's checkpoint no file may grow further")
parser.add_argument("--limit", type=int, default=0, help="bytes a file may have from then on")
parser.add_argument("--fill-after", type=int, default=0, help="after this step's checkpoint fill the disk")
parser.add_argument("--slow-evaluation", type=float, default=0, help="seconds an evaluation takes")
parser.add_argument("--slow-step", type=float, default=0, help="seconds a forward pass takes more")
arguments = parser.parse_args()
torch.set_num_threads(1)


def on_event(name: str, facts: dict) -> None:
    if name == "checkpoint" and facts["step"] == arguments.limit_after:
        resource.setrlimit(resource.RLIMIT_FSIZE, (arguments.limit, resource.RLIM_INFINITY))
    if name == "checkpoint" and facts["step"] == arguments.fill_after:
        with (arguments.folder.parent / "ballast").open("wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(4096))
            except OSError:
                os.fsync(ballast.fileno())


def evaluate(model: object) -> float:
    print("evaluating", flush=True)
    time.sleep(arguments.slow_evaluation)
    return 2.5


model = make_model()
if arguments.slow_step:

    def slow(*_: object) -> None:
        print("inside a pass", flush=True)
        time.sleep(arguments.slow_step)

    model.embedding.register_forward_hook(slow)
try:
    train(
        model,
        make_batches(arguments.world),
        make_settings(keep=3, steps=arguments.steps),
        folder=arguments.folder,
        evaluate=evaluate if arguments.slow_evaluation else None,
        on_event=on_event,
        report=lambda done, total, line: print(f"step {done}", flush=True),
    )
except GuijuError as error:
    print(error, file=sys.stderr)
    found = newest_checkpoint(arguments.folder)
    print(json.dumps({"whole": found.folder.name if found else None}) if arguments.fill_after else "")
    sys.exit(error.exit_code if isinstance(error, TrainingInterrupted) else 2)
