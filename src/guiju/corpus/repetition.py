"""Lines that a source's documents repeat at their edges: a site's header, a publisher's footer."""

from __future__ import annotations

from collections import Counter

from guiju.corpus.reading import ByteStream, read_documents
from guiju.corpus.settings import CorpusSettings
from guiju.corpus.sources import SourceFile

_DOCUMENTS = 1000
_CHARACTERS = 8 << 20
_LEAST_DOCUMENTS = 20
_EDGE = 3
_LONGEST = 80


def repeated_lines(settings: CorpusSettings, number: int, files: tuple[SourceFile, ...]) -> frozenset[str]:
    """Whole short lines among the first and last three of more than `repeated_line_share` of a source's documents.

    Counted over the source's beginning, at most a thousand documents. Records that are joined from several fields are
    left alone: there the first line is a title or an author, who may well have written most of the source.
    """
    source, cleaning = settings.sources[number], settings.cleaning
    if not cleaning.strip_boilerplate or len(source.fields) > 1:
        return frozenset()
    found: Counter[str] = Counter()
    documents = characters = 0
    for file in files:
        with ByteStream(file) as stream:
            for document in read_documents(source, stream, settings.max_document_bytes):
                if document.text is None:
                    continue
                lines = [line.strip() for line in document.text.split("\n")]
                lines = [line for line in lines if line]
                if len(lines) >= 2 * _EDGE:
                    edge = {line for line in lines[:_EDGE] + lines[-_EDGE:] if len(line) <= _LONGEST}
                    found.update(edge)
                documents += 1
                characters += len(document.text)
                if documents >= min(_DOCUMENTS, source.max_documents or _DOCUMENTS) or characters >= _CHARACTERS:
                    return _frequent(found, documents, cleaning.repeated_line_share)
    return _frequent(found, documents, cleaning.repeated_line_share)


def _frequent(found: Counter[str], documents: int, share: float) -> frozenset[str]:
    if documents < _LEAST_DOCUMENTS:
        return frozenset()
    return frozenset(line for line, count in found.items() if count > share * documents)
