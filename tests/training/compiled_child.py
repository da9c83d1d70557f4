"""Trains a tiny model with torch.compile and without, and prints what came of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from worlds import (
    EXAMPLES,
    FixedBatches,
    fixed_batch,
    make_example_batches,
    make_marked_world,
    make_settings,
    make_shape,
)

from guiju.training import train

folder, shape = Path(sys.argv[1]), sys.argv[2]


def batches():
    """Of several widths, where the shape has such."""
    if shape not in EXAMPLES:
        return FixedBatches(fixed_batch())
    if not (folder / "marked").exists():
        make_marked_world(folder)
    return make_example_batches(folder, EXAMPLES[shape], batch=4)


results = [
    train(
        make_shape(shape, layers=1),
        batches(),
        make_settings(steps=4, warmup_steps=0, compile=compile, checkpoint_every=0),
        folder=folder / str(compile),
    )
    for compile in (True, False)
]
facts = {"compiled": results[0].compiled, "notices": results[0].notices}
print(json.dumps({**facts, "loss": results[0].final_loss, "plain_loss": results[1].final_loss}))
