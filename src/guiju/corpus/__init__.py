"""Sources become a corpus: licence register, cleaning, deduplication, masking of personal data, inspection, split."""

from guiju.corpus.building import CorpusReport, build_corpus
from guiju.corpus.contamination import NgramIndex, Overlap
from guiju.corpus.controls import masking_controls
from guiju.corpus.inspection import Judgement, read_verdicts
from guiju.corpus.overlap import Likeness, TextIndex
from guiju.corpus.personal_data import KINDS, Span, find_personal_data, mask_personal_data
from guiju.corpus.settings import (
    CleaningSettings,
    CorpusSettings,
    DuplicateSettings,
    InspectionSettings,
    SourceSettings,
    SplitSettings,
)
from guiju.corpus.showing import ShownDocument, show_document
from guiju.corpus.sources import input_files

__all__ = [
    "KINDS",
    "CleaningSettings",
    "CorpusReport",
    "CorpusSettings",
    "DuplicateSettings",
    "InspectionSettings",
    "Judgement",
    "Likeness",
    "NgramIndex",
    "Overlap",
    "ShownDocument",
    "SourceSettings",
    "Span",
    "SplitSettings",
    "TextIndex",
    "build_corpus",
    "find_personal_data",
    "input_files",
    "mask_personal_data",
    "masking_controls",
    "read_verdicts",
    "show_document",
]
