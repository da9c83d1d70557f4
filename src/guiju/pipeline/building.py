"""The stages that make data: corpus, tokenizer, tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from guiju.corpus import build_corpus, masking_controls
from guiju.evidence import Kind
from guiju.pipeline.orchestration import StageContext, StageResult
from guiju.tokens import Tokenizer, train_tokenizer, write_shards


def make_corpus(context: StageContext) -> StageResult:
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


def make_tokenizer(context: StageContext) -> StageResult:
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


def make_tokens(context: StageContext) -> StageResult:
    """Both sides of the split as memory-mapped ids."""
    tokenizer = Tokenizer.load(context.path("tokenizer"))
    summary = {}
    for side in ("train", "validation"):
        source = context.path(f"corpus/{side}.jsonl")
        documents = read_documents(source, context.reporter.progress, f"tokens of {side}")
        index = write_shards(documents, tokenizer, context.path(f"tokens/{side}"))
        summary[side] = {"tokens": index.tokens, "documents": index.documents, "text_bytes": index.text_bytes}
    train = summary["train"]
    return StageResult(
        summary,
        f"{train['tokens']:,} tokens to learn from, {train['text_bytes'] / train['tokens']:.2f} bytes a token; "
        f"{summary['validation']['tokens']:,} held out",
    )


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
