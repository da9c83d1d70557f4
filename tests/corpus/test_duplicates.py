from __future__ import annotations

import gzip
import json
import random
import re
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from guiju.corpus.duplicates import candidate_groups, equal_documents, groups, join, settle
from guiju.corpus.settings import DuplicateSettings
from guiju.corpus.shingles import (
    band_keys,
    distinct,
    jaccard,
    shingle_hashes,
    shingles_of,
    shingles_of_all,
    token_hashes,
    tokens_of_all,
)

EXAMPLES = Path(__file__).parents[2] / "examples" / "data"


def plain_tokens(text: str) -> list[str]:
    """Words, and Chinese characters one by one, cut by a regular expression instead of by arrays."""
    return re.findall(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff_]+", text.lower())


def plain_shingles(text: str, size: int) -> set[tuple[str, ...]]:
    tokens = plain_tokens(text)
    if len(tokens) < size:
        return {tuple(tokens)}
    return {tuple(tokens[at : at + size]) for at in range(len(tokens) - size + 1)}


def plain_jaccard(first: set, second: set) -> float:
    return len(first & second) / len(first | second) if first and second else 0.0


def changed(text: str, share: float, random_state: random.Random) -> str:
    """The text with a share of its tokens replaced, in a few stretches as an editor would, and some case changed."""
    parts = re.findall(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+|[\W_]+", text)
    left = int(share * len(parts))
    while left > 0:
        at, length = random_state.randrange(len(parts)), random_state.randint(1, max(1, left))
        parts[at : at + length] = [
            "替" if "\u3400" <= part[0] <= "\u9fff" else "other" for part in parts[at : at + length]
        ]
        left -= length
    return "".join(parts)


@pytest.fixture(scope="module")
def real_texts() -> list[str]:
    """Stories and poems, each followed later by 0 to 2 versions that are changed by 0 to 10 %."""
    stories = gzip.decompress((EXAMPLES / "tinystories" / "tinystories_sample.train.txt.gz").read_bytes()).decode()
    texts = [story.strip() for story in stories.split("<|endoftext|>")[:240]]
    for name in ("poet.tang.0", "ci.song.0"):
        poems = json.loads(gzip.decompress((EXAMPLES / "chinese-poetry" / f"{name}.json.gz").read_bytes()))
        texts += ["\n".join(poem["paragraphs"]) for poem in poems[:200]]
    texts = [text for text in texts if len(text) > 40]
    random_state = random.Random(7)
    versions = [
        changed(text, random_state.random() * 0.1, random_state) for text in texts for _ in "12"[: len(text) % 3]
    ]
    return texts + versions


def test_tokens_and_shingles_equal_a_plain_way_to_cut_them(real_texts):
    cases = [
        "",
        "!!!",
        "one",
        "One two",
        "a1 b_c d-e",
        "中文abc混合 text 字",
        "naïve CAFÉ",
        "x" * 1000,
        *real_texts[:50],
    ]
    for text in cases:
        tokens = plain_tokens(text)
        hashes = token_hashes(text)
        assert hashes.size == len(tokens)
        named = dict(zip(tokens, hashes.tolist(), strict=True))
        assert [named[token] for token in tokens] == hashes.tolist()
        assert len(set(named.values())) == len(named)
        if tokens:
            assert shingles_of(text, 5).size == len(plain_shingles(text, 5))


def test_many_texts_at_once_give_what_each_gives_alone(real_texts):
    texts = ["", "İstanbul", *real_texts[:40], "", "中", "end"]
    tokens, offsets = tokens_of_all(texts)
    for number, text in enumerate(texts):
        np.testing.assert_array_equal(tokens[offsets[number] : offsets[number + 1]], token_hashes(text))
    for text, found in zip(texts, shingles_of_all(tokens, offsets, 5), strict=True):
        np.testing.assert_array_equal(found, shingle_hashes(token_hashes(text), 5))


def test_jaccard_equals_that_of_plain_sets(real_texts):
    random_state = random.Random(1)
    for _ in range(300):
        first, second = random_state.choices(real_texts, k=2)
        expected = plain_jaccard(plain_shingles(first, 5), plain_shingles(second, 5))
        assert jaccard(shingles_of(first, 5), shingles_of(second, 5)) == pytest.approx(expected, abs=1e-12)


def test_a_text_of_few_tokens_is_alike_only_to_itself():
    assert jaccard(shingles_of("one two", 5), shingles_of("One, two!", 5)) == 1
    assert jaccard(shingles_of("one two", 5), shingles_of("one two three four five", 5)) == 0


def settled(folder: Path, texts: list[str], settings: DuplicateSettings) -> tuple[dict[int, int], set[tuple[int, int]]]:
    """The whole pass over texts: which repeats which, and which kept pairs are alike."""
    sets = [shingle_hashes(token_hashes(text), settings.shingle) for text in texts]
    keys = band_keys(sets, settings.permutations, settings.bands, settings.seed)
    (folder / "keys").write_bytes(keys.tobytes())
    lines = [json.dumps({"text": text}).encode() + b"\n" for text in texts]
    (folder / "texts").write_bytes(b"".join(lines))
    lengths = np.array([len(line) for line in lines])
    offsets = np.cumsum(lengths) - lengths
    label = candidate_groups(folder / "keys", settings.bands, np.ones(len(texts), bool))
    dropped: dict[int, int] = {}
    alike: set[tuple[int, int]] = set()
    for portion in groups(label, folder / "keys", settings.bands, offsets, lengths):
        result = settle(folder / "texts", portion, settings)
        dropped |= {document: kept for document, kept, _ in result.dropped}
        alike |= {(first, second) for first, second, _ in result.alike}
    return dropped, alike


def test_near_duplicates_are_found_as_by_comparing_every_pair(tmp_path, real_texts):
    settings = DuplicateSettings()
    sets = [plain_shingles(text, settings.shingle) for text in real_texts]
    similarity = {}
    for first, second in combinations(range(len(sets)), 2):
        if not sets[first].isdisjoint(sets[second]):
            value = plain_jaccard(sets[first], sets[second])
            if value >= settings.split_threshold:
                similarity[first, second] = value
    dropped, alike = settled(tmp_path, real_texts, settings)
    true_pairs = {pair for pair, value in similarity.items() if value >= settings.threshold}
    assert len(true_pairs) > 100, "the test has nothing to find"
    # Precision: whatever is dropped is truly alike to a document that stays and stands earlier.
    for document, kept in dropped.items():
        assert kept < document
        assert kept not in dropped
        assert (kept, document) in true_pairs
    # Recall: of all true pairs at least one side is dropped; 999 in 1,000 is what the bands promise at the threshold.
    missed = [pair for pair in true_pairs if not dropped.keys() & set(pair)]
    assert len(missed) <= 0.001 * len(true_pairs)
    # Pairs between the two thresholds, both kept, that the split has to know of.
    between = {pair for pair in similarity if not dropped.keys() & set(pair)}
    assert between, "the test has nothing to find"
    assert alike <= between
    assert len(alike) >= 0.97 * len(between)


def test_the_earliest_of_a_cluster_stays(tmp_path):
    base = " ".join(f"word{number}" for number in range(200))
    versions = [base, base + " end", "unlike " * 30 + "text", base.replace("word100", "other"), base]
    dropped, _ = settled(tmp_path, versions, DuplicateSettings())
    assert dropped == {1: 0, 3: 0, 4: 0}


def test_a_chain_does_not_drop_what_no_kept_document_stands_for(tmp_path):
    """B is like A, C is like B but not like A: B goes, C stays, because nothing kept is like it."""
    words = [f"word{number}" for number in range(300)]
    a, b, c = " ".join(words[:200]), " ".join(words[18:218]), " ".join(words[36:236])
    sets = [plain_shingles(text, 5) for text in (a, b, c)]
    assert plain_jaccard(sets[0], sets[1]) >= 0.8
    assert plain_jaccard(sets[1], sets[2]) >= 0.8
    assert plain_jaccard(sets[0], sets[2]) < 0.8
    dropped, alike = settled(tmp_path, [a, b, c], DuplicateSettings())
    assert dropped == {1: 0}
    assert alike == {(0, 2)}


def test_equal_documents_lead_to_the_earliest():
    random_state = random.Random(3)
    texts = [random_state.randrange(40) for _ in range(500)]
    digests = np.array([[text * 7919, text ^ 12345] for text in texts], np.uint64)
    assert equal_documents(digests).tolist() == [texts.index(text) for text in texts]
    assert equal_documents(np.zeros((0, 2), np.uint64)).tolist() == []


def test_joining_pairs_equals_walking_a_graph():
    random_state = random.Random(5)
    for _ in range(50):
        size = random_state.randint(1, 80)
        pairs = [
            (random_state.randrange(size), random_state.randrange(size)) for _ in range(random_state.randint(0, 80))
        ]
        smallest = list(range(size))
        for _ in range(size):  # plain relaxation to a fixed point
            for first, second in pairs:
                smallest[first] = smallest[second] = min(smallest[first], smallest[second])
        ends = np.array(pairs, np.int64).reshape(-1, 2)
        label = np.arange(size)
        for part in np.array_split(ends, 3):
            label = join(label, part[:, 0], part[:, 1])
        assert label.tolist() == smallest


def test_many_documents_from_one_template_are_settled_in_good_time(tmp_path):
    """A thousand texts that are all candidates of one another, and not duplicates: the work stays in proportion."""
    shared = " ".join(f"shared{number}" for number in range(70))
    random_state = random.Random(11)
    texts = [f"{shared} " + " ".join(str(random_state.random()) for _ in range(30)) for _ in range(1000)]
    began = time.perf_counter()
    dropped, _ = settled(tmp_path, texts, DuplicateSettings())
    assert not dropped
    assert time.perf_counter() - began < 20


def test_signatures_estimate_similarity_as_minhash_promises(real_texts):
    """The share of equal single-row bands lies near the true Jaccard similarity."""
    sets = [distinct(shingle_hashes(token_hashes(text), 5)) for text in real_texts]
    keys = band_keys(sets, 128, 128, 42)
    errors = []
    for first in range(0, len(sets), 3):
        for second in (first + 1, len(sets) - 1 - first % 50):
            if second < len(sets) and first != second:
                errors.append((keys[first] == keys[second]).mean() - jaccard(sets[first], sets[second]))
    assert abs(float(np.mean(errors))) < 0.01
    assert float(np.abs(errors).max()) < 0.25
