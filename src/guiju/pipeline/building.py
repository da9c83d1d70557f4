"""The stages that make data: corpus, tokenizer, tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from guiju.corpus import build_corpus, masking_controls
from guiju.evidence import Kind
from guiju.pipeline.orchestration import Reporter, StageContext, StageResult
from guiju.pipeline.recipe import Recipe
from guiju.tokens import Tokenizer, train_tokenizer, write_shards


def make_corpus(context: StageContext[Recipe]) -> StageResult:
    """Sources become documents; the licence register, the draw for inspection and every measure go on record."""
    recipe = context.recipe
    controls = masking_controls(recipe.corpus.personal_data)
    report = build_corpus(recipe.corpus, context.path("corpus"), root=recipe.root, progress=context.reporter.progress)
    for source in report.sources:
        context.record(Kind.SOURCE_REGISTERED, source, f"source {source['name']} is registered")
    context.record(Kind.SAMPLE_DRAWN, report.sample, "documents drawn for inspection by people and by rules")
    for measurement in (controls, *report.measurements):
        context.record(Kind.MEASUREMENT, measurement, f"{measurement['measure']} of the corpus")
    return StageResult(report.summary, report.line)


def make_tokenizer(context: StageContext[Recipe]) -> StageResult:
    """A byte-level vocabulary, learned from the training side alone."""
    report = context.reporter.progress
    texts = (
        text for _, text in read_documents(context.path("corpus/train.jsonl"), report, "reading for the tokenizer")
    )
    tokenizer = train_tokenizer(texts, context.recipe.tokenizer, context.path("tokenizer"))
    return StageResult(
        {"vocab_size": tokenizer.vocab_size, "digest": tokenizer.digest},
        f"{tokenizer.vocab_size:,} tokens in the vocabulary",
    )


def make_tokens(context: StageContext[Recipe]) -> StageResult:
    """Both sides of the split as memory-mapped ids; of pairs, their targets, with the sources beside them."""
    tokenizer = Tokenizer.load(context.path("tokenizer"))
    summary = {}
    for side in ("train", "validation"):
        source = context.path(f"corpus/{side}.jsonl")
        documents = read_documents(source, context.reporter.progress, f"tokens of {side}")
        place = context.path(f"tokens/{side}")
        if context.recipe.objective == "pairs":
            documents = _pairs(documents, context.reporter)
            _write_sources(source, tokenizer, sources_of(place))
        index = write_shards(documents, tokenizer, place)
        summary[side] = {"tokens": index.tokens, "documents": index.documents, "text_bytes": index.text_bytes}
    train = summary["train"]
    return StageResult(
        summary,
        f"{train['tokens']:,} tokens to learn from, {train['text_bytes'] / train['tokens']:.2f} bytes a token; "
        f"{summary['validation']['tokens']:,} held out",
    )


def sources_of(targets: Path) -> Path:
    """Where the sources of pairs lie, whose targets lie there."""
    return targets.with_name(f"{targets.name}-sources")


def split_pair(text: str) -> tuple[str, str] | None:
    """A document's first line, and the rest: a source and its target. None where either is empty."""
    source, _, target = text.partition("\n")
    pair = source.strip(), target.strip()
    return pair if all(pair) else None


def _pairs(documents: Iterable[tuple[str, str]], reporter: Reporter) -> Iterator[tuple[str, str]]:
    """The targets of those that are pairs."""
    left_out = 0
    for name, text in documents:
        pair = split_pair(text)
        if pair is None:
            left_out += 1
        else:
            yield name, pair[1]
    if left_out:
        reporter.note(f"{left_out} documents hold one line alone, which is no pair, and are left out")


def _write_sources(corpus: Path, tokenizer: Tokenizer, place: Path) -> None:
    pairs = ((name, split_pair(text)) for name, text in read_documents(corpus))
    write_shards(((name, pair[0]) for name, pair in pairs if pair is not None), tokenizer, place)


def read_documents(path: Path, report: object = None, label: str = "") -> Iterator[tuple[str, str]]:
    """(id, text) of a corpus file, line by line."""
    size, read = path.stat().st_size, 0
    with path.open("rb") as lines:
        for line in lines:
            document = json.loads(line)
            yield document["id"], document["text"]
            read += len(line)
            if callable(report):
                report(read, size, label)
