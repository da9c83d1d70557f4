"""Trains a tiny model with torch.compile and without, and prints what came of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from worlds import FixedBatches, fixed_batch, make_model, make_settings

from guiju.training import train

folder = Path(sys.argv[1])
results = [
    train(
        make_model("llama", layers=1),
        FixedBatches(fixed_batch()),
        make_settings(steps=4, warmup_steps=0, compile=compile, checkpoint_every=0),
        folder=folder / str(compile),
    )
    for compile in (True, False)
]
facts = {"compiled": results[0].compiled, "notices": results[0].notices}
print(json.dumps({**facts, "loss": results[0].final_loss, "plain_loss": results[1].final_loss}))
