"""A model continues text, and says how likely it finds one."""

from guiju.generation.engine import Sequence, generate, prompt_ids, stop_ids
from guiju.generation.score import Score, score, score_each
from guiju.generation.settings import SamplingSettings

__all__ = [
    "SamplingSettings",
    "Score",
    "Sequence",
    "generate",
    "prompt_ids",
    "score",
    "score_each",
    "stop_ids",
]
