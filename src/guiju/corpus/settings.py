"""What steers the corpus: its sources with their licences, the cleaning rules' thresholds, and the split."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from typing import Literal

from guiju.corpus.personal_data import KINDS
from guiju.errors import ConfigError

SPLIT_ON_FILE = "file"
SPLIT_ON_BLANK_LINES = "blank-lines"
HEADING_PREFIX = "heading:"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_DATE = re.compile(r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?")
_LANGUAGE = re.compile(r"[a-z]{2,3}")
REGISTER_FIELDS = ("licence", "origin", "language", "date")


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """One source: where its files lie, how they are read, and by what right they are used."""

    name: str
    """Short and unique; a document's id is this name, a hyphen and the document's number within the source."""
    path: tuple[str, ...] | str
    """A file, a glob such as books/*.md.gz, or a list of either; relative to the recipe's root."""
    format: Literal["auto", "text", "markdown", "jsonl", "json", "csv", "tsv", "parquet"] = "auto"
    """auto reads it off the file's name, with .gz or .zst taken away first."""
    encoding: str | None = None
    """Of text, json and table files; without it UTF-8 is required."""
    text_fields: tuple[str, ...] | str = "text"
    """Of records: fields whose values are joined, one a line, into the document; a list of lines counts as lines,
    and a dot leads inward. In a table without header, columns are "0", "1", ..."""
    records: str = ""
    """json: the dotted way to the list of records; empty where the file itself is that list."""
    header: bool = True
    """csv and tsv: the first row names the columns."""
    split_on: str = SPLIT_ON_FILE
    """Of text and markdown: file, blank-lines, heading:REGEX (such a line begins a document), or else the line that
    stands between documents, such as <|endoftext|>."""
    max_documents: int | None = None
    """Read this many documents, and no more; none for all."""
    licence: str = ""
    """SPDX identifier, or the licence in words."""
    licence_file: str | None = None
    """The licence's text, relative to the recipe's root; its digest goes into the register."""
    origin: str = ""
    """Where the source was taken from: an address, a publisher, a repository with its commit."""
    language: tuple[str, ...] | str = ""
    """ISO 639 codes of the languages that documents may be in, such as en or [en, zh]."""
    date: str = ""
    """Day, month or year of collection, such as "2026-11-23"."""
    kind: Literal["open-source", "self-collected", "commercial", "user-input"] = "open-source"
    """By what way the source was come by; the standard asks something else of each."""
    region: Literal["domestic", "foreign", "unknown"] = "unknown"
    """Seen from mainland China, as the standard sees it."""
    country: str = ""
    """ISO 3166 code of the source's country, where it is known."""
    collection_record: str = ""
    """self-collected: the record of the collection and of the opt-outs (robots.txt) that were honoured."""
    contract: str = ""
    """commercial: the contract and the supplier's commitment."""
    consent: str = ""
    """user-input: the record of the users' authorisation."""
    accept_without: str = ""
    """Why this source may be used although its licence, origin, language or date is not known; kept in the register."""

    def __post_init__(self) -> None:
        where = f"corpus.sources.{self.name}"
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"corpus.sources: the name {self.name!r} may hold only a-z, 0-9, '.', '_' and '-', "
                "because documents' ids begin with it"
            )
        if not self.paths or not all(self.paths):
            raise ConfigError(f"{where}.path is empty; give a file, a glob or a list of them")
        for code in self.languages:
            if not _LANGUAGE.fullmatch(code):
                raise ConfigError(f"{where}.language is {code!r}; it must be an ISO 639 code such as en or zh")
        if self.date and not _DATE.fullmatch(self.date):
            raise ConfigError(f'{where}.date is {self.date!r}; write it as "2026", "2026-11" or "2026-11-23"')
        if self.encoding is not None:
            _check_encoding(where, self.encoding)
        if not self.fields or not all(self.fields):
            raise ConfigError(f"{where}.text_fields is empty; name the field that holds the text")
        if self.max_documents is not None and self.max_documents < 1:
            raise ConfigError(f"{where}.max_documents is {self.max_documents}; it must be 1 or more")
        self._check_split(where)
        self._check_register(where)

    def _check_split(self, where: str) -> None:
        if not self.split_on.strip():
            raise ConfigError(f"{where}.split_on is empty; use file, blank-lines, heading:REGEX or a marker line")
        if self.split_on.startswith(HEADING_PREFIX):
            try:
                re.compile(self.split_on.removeprefix(HEADING_PREFIX))
            except re.error as problem:
                raise ConfigError(f"{where}.split_on {self.split_on!r} is no regular expression: {problem}") from None

    def _check_register(self, where: str) -> None:
        missing = self.missing
        if missing and not self.accept_without.strip():
            raise ConfigError(
                f"{where} states no {', no '.join(missing)}: a corpus without provenance cannot be shown to be lawful. "
                f"State {'it' if len(missing) == 1 else 'them'}, or say in accept_without why the source may be used"
            )

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,) if isinstance(self.path, str) else self.path

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.text_fields,) if isinstance(self.text_fields, str) else self.text_fields

    @property
    def languages(self) -> tuple[str, ...]:
        if isinstance(self.language, str):
            return (self.language,) if self.language else ()
        return self.language

    @property
    def missing(self) -> tuple[str, ...]:
        """What the register asks for, and this source does not state."""
        return tuple(
            name
            for name in REGISTER_FIELDS
            if not (self.languages if name == "language" else getattr(self, name).strip())
        )


@dataclass(frozen=True, kw_only=True)
class CleaningSettings:
    """The rules that repair a document or drop it. A threshold of 0 or 1 that can never bite turns a rule off."""

    repair_mojibake: bool = True
    """Undo text that was decoded with a wrong encoding on its way (ftfy)."""
    normalise: bool = True
    """Unicode normal form C. Not KC: full-width punctuation belongs to Chinese."""
    strip_controls: bool = True
    """Take out control, zero-width and direction characters."""
    tidy_whitespace: bool = True
    """One kind of line end, no spaces at line ends, at most one empty line in a row."""
    strip_boilerplate: bool = True
    """Cut Project Gutenberg's frame and navigation lines, and lines that most documents of a source repeat."""
    repeated_line_share: float = 0.2
    """A short line at the edge of more than this share of a source's documents is boilerplate."""
    min_characters: int = 20
    """Shorter documents are dropped; counted without white space."""
    max_characters: int = 2_000_000
    """Longer documents, as they are read, are dropped: it bounds the memory."""
    detect_language: bool = True
    """Drop a document that is surely in another language than its source states."""
    language_confidence: float = 0.9
    """How sure the detector must be of another language."""
    max_symbol_share: float = 0.4
    """Of characters that are not white space: how many may be neither letters, digits nor common punctuation."""
    max_digit_share: float = 0.5
    """Of characters that are not white space: how many may be digits."""
    max_replacement_share: float = 0.001
    """How many characters may be U+FFFD, which stands where a decoder lost text."""
    max_repeated_lines: float = 0.5
    """How much of the text may stand in lines that occurred before in the same document."""
    max_repeated_ngrams: float = 0.5
    """How much of the text may stand in runs of words (of characters in Chinese) that occurred before in it."""
    max_word_length: float = 20.0
    """Mean characters a word, in texts that are written with spaces."""

    def __post_init__(self) -> None:
        for name in (
            "repeated_line_share",
            "language_confidence",
            "max_symbol_share",
            "max_digit_share",
            "max_replacement_share",
            "max_repeated_lines",
            "max_repeated_ngrams",
        ):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"corpus.cleaning.{name} is {value}; a share lies between 0 and 1")
        if self.min_characters < 1:
            raise ConfigError(f"corpus.cleaning.min_characters is {self.min_characters}; it must be 1 or more")
        if self.max_characters < self.min_characters:
            raise ConfigError(
                f"corpus.cleaning.max_characters is {self.max_characters}, less than min_characters "
                f"({self.min_characters}): every document would be dropped"
            )
        if not self.max_word_length > 0:
            raise ConfigError(f"corpus.cleaning.max_word_length is {self.max_word_length}; it must be more than 0")


@dataclass(frozen=True, kw_only=True)
class DuplicateSettings:
    """Near-duplicates: documents whose sets of shingles overlap by at least `threshold` (Jaccard)."""

    threshold: float = 0.8
    """A later document with this Jaccard similarity to a kept one is dropped; 1.0 drops equal shingle sets alone."""
    split_threshold: float = 0.6
    """Kept documents with this similarity go to the same side of the split."""
    shingle: int = 5
    """Words a shingle; a Chinese character counts as a word."""
    permutations: int = 128
    """Length of a MinHash signature."""
    bands: int = 32
    """Bands of the signature; documents that share one are compared. More find more, and cost more."""
    seed: int = 42

    def __post_init__(self) -> None:
        where = "corpus.duplicates"
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"{where}.threshold is {self.threshold}; it must be more than 0 and at most 1")
        if not 0 < self.split_threshold <= self.threshold:
            raise ConfigError(
                f"{where}.split_threshold is {self.split_threshold}; it must be more than 0 and at most the threshold "
                f"({self.threshold}), or near-duplicates could lie on both sides of the split"
            )
        if not 1 <= self.shingle <= 100:
            raise ConfigError(f"{where}.shingle is {self.shingle}; it must lie between 1 and 100")
        if self.permutations < 1 or self.bands < 1 or self.permutations % self.bands:
            raise ConfigError(
                f"{where}.permutations is {self.permutations} and bands {self.bands}; "
                "the first must be a multiple of the second"
            )
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"{where}.seed is {self.seed}; it must lie between 0 and 2**32 - 1")

    def found(self, similarity: float) -> float:
        """The chance that a pair with this similarity becomes a candidate: 1 - (1 - s^r)^b."""
        return 1 - (1 - similarity ** (self.permutations // self.bands)) ** self.bands


@dataclass(frozen=True, kw_only=True)
class InspectionSettings:
    """The draw of documents for people and for rules, out of what is kept."""

    people: int = 4000
    """Documents drawn for people to judge; the standard asks for at least 4,000, or all where there are fewer."""
    rules_share: float = 0.1
    """Share of the corpus drawn for rules to judge; the standard asks for at least a tenth."""
    seed: int = 2025

    def __post_init__(self) -> None:
        if self.people < 0:
            raise ConfigError(f"corpus.inspection.people is {self.people}; it must be 0 or more")
        if not 0 <= self.rules_share <= 1:
            raise ConfigError(f"corpus.inspection.rules_share is {self.rules_share}; a share lies between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class SplitSettings:
    validation_share: float = 0.05
    """Share of documents held out, about; near-duplicates stay together."""
    seed: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.validation_share < 1:
            raise ConfigError(
                f"corpus.split.validation_share is {self.validation_share}; it must be at least 0 and less than 1"
            )


@dataclass(frozen=True, kw_only=True)
class CorpusSettings:
    """How sources become a corpus."""

    sources: tuple[SourceSettings, ...]
    cleaning: CleaningSettings = field(default_factory=CleaningSettings)
    duplicates: DuplicateSettings = field(default_factory=DuplicateSettings)
    personal_data: tuple[str, ...] = KINDS
    """Classes of personal data that are masked; [] masks none."""
    evaluation_files: tuple[str, ...] = ()
    """Files whose texts the corpus must not hold; documents that share a run of 13 tokens with one are dropped."""
    inspection: InspectionSettings = field(default_factory=InspectionSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    max_document_bytes: int = 16 * 1024 * 1024
    """A longer document, or a longer line of jsonl, is dropped while it is read: it bounds the memory."""
    processes: int = 0
    """Worker processes; 0 for one a core, at most four, and none where the input is small. The result is the same."""

    def __post_init__(self) -> None:
        if not self.sources:
            raise ConfigError("corpus.sources is empty; name at least one source to build a corpus from")
        names = [source.name for source in self.sources]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ConfigError(f"corpus.sources names {doubled[0]!r} twice; documents' ids need names that are unique")
        unknown = [kind for kind in self.personal_data if kind not in KINDS]
        if unknown:
            raise ConfigError(f"corpus.personal_data names {unknown[0]!r}; known are {', '.join(KINDS)}")
        if self.max_document_bytes < 1024:
            raise ConfigError(f"corpus.max_document_bytes is {self.max_document_bytes}; it must be 1024 or more")
        if not 0 <= self.processes <= 1024:
            raise ConfigError(f"corpus.processes is {self.processes}; it must lie between 0 and 1024")


def _check_encoding(where: str, encoding: str) -> None:
    try:
        known = codecs.lookup(encoding)
    except (LookupError, ValueError):
        raise ConfigError(
            f"{where}.encoding is {encoding!r}, which Python does not know; gb18030 is one it does"
        ) from None
    if not getattr(known, "_is_text_encoding", True):
        raise ConfigError(f"{where}.encoding is {encoding!r}, which is no encoding of text")
