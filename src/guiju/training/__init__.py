"""Learning: one loop with its optimizer, its checkpoints, its evaluation, and the baselines a model must beat."""

from guiju.training.baselines import NgramBaselines, ngram_baselines, unigram_chances, xz_bits_per_byte
from guiju.training.evaluation import evaluate_bits_per_byte
from guiju.training.loop import train
from guiju.training.loss import cross_entropy_in_chunks
from guiju.training.objectives import Objective, make_objective, objective_name
from guiju.training.preferences import reference_log_probs, row_log_probs
from guiju.training.result import Batches, TrainingResult
from guiju.training.scoring import (
    TargetScores,
    evaluation_batches,
    score_targets,
    score_unigram,
    with_other_sources,
)
from guiju.training.settings import TrainingSettings, learning_rate
from guiju.training.stopping import TrainingInterrupted

__all__ = [
    "Batches",
    "NgramBaselines",
    "Objective",
    "TargetScores",
    "TrainingInterrupted",
    "TrainingResult",
    "TrainingSettings",
    "cross_entropy_in_chunks",
    "evaluate_bits_per_byte",
    "evaluation_batches",
    "learning_rate",
    "make_objective",
    "ngram_baselines",
    "objective_name",
    "reference_log_probs",
    "row_log_probs",
    "score_targets",
    "score_unigram",
    "train",
    "unigram_chances",
    "with_other_sources",
    "xz_bits_per_byte",
]
