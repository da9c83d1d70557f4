"""Which documents are held out: by a digest of their id, near-duplicates together."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from guiju.corpus.duplicates import join
from guiju.corpus.settings import CorpusSettings
from guiju.corpus.spill import Spill


def sides(
    settings: CorpusSettings, spill: Spill, kept: npt.NDArray[np.bool_], alike: list[tuple[int, int, float]]
) -> npt.NDArray[np.bool_]:
    """True for survivors that go to validation.

    Documents that are alike, directly or by others between them, share a side: that of the earliest of them. A
    document's side depends on its id, the seed and its likes alone, so sources that are added later do not move it.
    """
    label = np.arange(len(kept))
    if alike:
        pairs = np.array([(first, second) for first, second, _ in alike], np.int64)
        label = join(label, pairs[:, 0], pairs[:, 1])
    share, seed = settings.split.validation_share, settings.split.seed
    chosen = np.zeros(len(kept), bool)
    if share == 0:
        return chosen
    roots = np.flatnonzero(kept & (label == np.arange(len(kept))))
    chance = np.array([chance_of(seed, spill.name(document)) for document in roots.tolist()], np.float64)
    held_out = chance < share
    if not held_out.any() and len(roots) > 1:  # a small corpus: something must be held out
        held_out[np.argmin(chance)] = True
    if held_out.all() and len(roots) > 1:
        held_out[np.argmax(chance)] = False
    chosen[roots[held_out]] = True
    result: npt.NDArray[np.bool_] = chosen[label] & kept
    return result


def chance_of(seed: int, name: str) -> float:
    """A number in [0, 1) that depends on the seed and the id alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{name}".encode()).digest()[:8], "big") / 2**64
