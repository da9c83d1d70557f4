"""Learning: one loop with its optimizer, its checkpoints, its evaluation, and the baselines a model must beat."""

from guiju.training.baselines import NgramBaselines, ngram_baselines, xz_bits_per_byte
from guiju.training.evaluation import evaluate_bits_per_byte
from guiju.training.loop import train
from guiju.training.loss import cross_entropy_in_chunks
from guiju.training.result import Batches, TrainingResult
from guiju.training.settings import TrainingSettings, learning_rate
from guiju.training.stopping import TrainingInterrupted

__all__ = [
    "Batches",
    "NgramBaselines",
    "TrainingInterrupted",
    "TrainingResult",
    "TrainingSettings",
    "cross_entropy_in_chunks",
    "evaluate_bits_per_byte",
    "learning_rate",
    "ngram_baselines",
    "train",
    "xz_bits_per_byte",
]
