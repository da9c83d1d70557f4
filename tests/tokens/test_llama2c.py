from __future__ import annotations

import gzip
import random
import struct
from pathlib import Path

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from guiju.errors import DataError, ModelError
from guiju.tokens import Llama2cTokenizer, Tokenizer

DATA = Path(__file__).parents[2] / "examples" / "data"
TOK512 = DATA / "stories260K" / "tok512.bin"
SPECIAL = [(0.0, b"<unk>"), (0.0, b"\n<s>\n"), (0.0, b"\n</s>\n")]


@pytest.fixture(scope="module")
def tok512():
    return Llama2cTokenizer.read(TOK512, 512)


@pytest.fixture(scope="module")
def exported(tok512, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    tok512.save(folder)
    return folder


def _vocabulary(*pieces: bytes, scores=None) -> Llama2cTokenizer:
    """The special three, then pieces whose scores fall one by one."""
    scores = scores or [-float(rank) for rank in range(len(pieces))]
    return Llama2cTokenizer([0.0] * 3 + scores, [piece for _, piece in SPECIAL] + list(pieces))


def _write(path: Path, entries) -> Path:
    body = b"".join(struct.pack("<fi", score, len(piece)) + piece for score, piece in entries)
    path.write_bytes(struct.pack("<i", max(len(piece) for _, piece in entries)) + body)
    return path


def _as_run_c(text: str) -> list[int]:
    """run.c's encode, line by line: look at all pairs, merge the best, begin again."""
    data = TOK512.read_bytes()
    entries, place = [], 4
    while place < len(data):
        score, size = struct.unpack_from("<fi", data, place)
        entries.append((score, data[place + 8 : place + 8 + size]))
        place += 8 + size
    lookup = {piece: token for token, (_, piece) in enumerate(entries)}
    tokens = [lookup[b" "]] if text else []
    for character in text:
        piece = character.encode()
        tokens += [lookup[piece]] if piece in lookup else [byte + 3 for byte in piece]
    while True:
        best_score, best_id, best_place = -1e10, -1, -1
        for place in range(len(tokens) - 1):
            merged = lookup.get(entries[tokens[place]][1] + entries[tokens[place + 1]][1])
            if merged is not None and entries[merged][0] > best_score:
                best_score, best_id, best_place = entries[merged][0], merged, place
        if best_place < 0:
            return tokens
        tokens[best_place : best_place + 2] = [best_id]


def _lines(count: int, seed: int = 0) -> list[str]:
    """English from real stories, made-up words, Chinese, spaces in all places, and what looks like special pieces."""
    chance = random.Random(seed)
    words = gzip.decompress(next(DATA.rglob("tinystories_sample*.gz")).read_bytes()).decode().split(" ")[:20_000]
    odd = [
        "床前明月光",
        "é",
        "“Hi!”",
        "\n",
        "\t",
        "  ",
        "   ",
        "<s>",
        "</s>",
        "<unk>",
        "<0x41>",
        "\U0001f600",
        "…",
        "aaa",
        "---",
        "\u2581",
    ]
    made = []
    for _ in range(count):
        picked = chance.choices(words, k=chance.randint(0, 12)) + chance.choices(odd, k=chance.randint(0, 3))
        picked += ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz .,'", k=chance.randint(0, 9)))]
        chance.shuffle(picked)
        made.append(chance.choice(["", " "]).join(picked))
    return made


def test_ids_are_those_of_run_c(tok512):
    for line in _lines(300):
        assert tok512.encode(line) == _as_run_c(line), line


def test_the_saved_tokenizer_gives_the_same_ids_on_ten_thousand_lines(tok512, exported):
    lines = _lines(10_000, seed=1)
    ours = tok512.encode_batch(lines)
    assert Tokenizer.load(exported).encode_batch(lines) == ours
    theirs = transformers.AutoTokenizer.from_pretrained(exported)
    assert theirs(lines).input_ids == [[1, *ids] for ids in ours]


def test_text_comes_back_from_both(tok512, exported):
    theirs = transformers.AutoTokenizer.from_pretrained(exported)
    assert (theirs.bos_token_id, theirs.eos_token_id) == (1, 2)
    for line in _lines(300, seed=2):
        assert tok512.decode(tok512.encode(line)) == line
        assert Tokenizer.load(exported).decode(tok512.encode(line)) == line
        assert theirs.decode(theirs(line).input_ids, skip_special_tokens=True) == line


def test_it_keeps_the_tokenizers_interface(tok512, exported):
    assert (tok512.vocab_size, tok512.bos_id, tok512.eos_id, tok512.start_id) == (512, 1, 2, 1)
    assert tok512.prefix_ids == Tokenizer.load(exported).prefix_ids == [1]
    assert tok512.encode("a", bos=True) == [1, *tok512.encode("a")]
    sizes = tok512.bytes_per_token
    assert sizes[:4] == [0, 0, 0, 1]
    assert sum(sizes[token] for token in tok512.encode("Once upon 床")) == len(" Once upon 床".encode())
    assert tok512.digest == Tokenizer.load(exported).digest
    assert tok512.decode_bytes(tok512.encode("床")[:-1]) == "床".encode()[:-1]


def test_a_vocabulary_without_byte_pieces_gives_unknown_for_unknown_characters(tmp_path):
    entries = [
        *SPECIAL,
        (-5.0, b" "),
        (-6.0, b"a"),
        (-7.0, b"b"),
        (-1.0, b" a"),
        (-2.0, b"ab"),
        (-3.0, "床".encode()),
    ]
    tokenizer = Llama2cTokenizer.read(_write(tmp_path / "tok.bin", entries), 9)
    assert tokenizer.encode("ab") == [6, 5]
    assert tokenizer.encode("xab床y") == [3, 0, 7, 8, 0]
    assert tokenizer.decode(tokenizer.encode("bab床")) == "bab床"
    tokenizer.save(tmp_path)
    assert tokenizer.lines_that_differ(Tokenizer.load(tmp_path)) == 0
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("xab床y").input_ids == [1, 3, 0, 7, 8, 0]


def test_byte_pieces_are_found_wherever_they_stand():
    tokenizer = _vocabulary(b" ", b"a", *(b"<0x%02X>" % byte for byte in reversed(range(256))))
    ids = tokenizer.encode("a床")
    assert ids[:2] == [3, 4]
    assert ids[2:] == [5 + 255 - byte for byte in "床".encode()]
    assert tokenizer.decode(ids) == "a床"


def test_where_some_bytes_lack_a_piece_the_whole_character_is_unknown():
    tokenizer = _vocabulary(b"a", *(b"<0x%02X>" % byte for byte in range(128)))
    assert tokenizer.encode("a床~") == [3, 0, 4 + ord("~")]


def test_without_a_piece_for_the_space_none_is_put_before_the_text():
    tokenizer = _vocabulary(b"a", b"b", b"ab")
    assert tokenizer.encode("ab") == [5]
    assert tokenizer.decode([5]) == "ab"


def test_no_text_merges_into_a_special_or_byte_piece():
    forged = Llama2cTokenizer([0.0] * 10, [b"<unk>", b"<s>", b"</s>", b"<", b"s", b">", b"<s", b"s>", b"<0x41>", b" "])
    assert 1 not in forged.encode("<s>")
    assert forged.decode(forged.encode("<s>")) == "<s>"


def test_pieces_that_are_no_utf_8_decode_to_their_bytes(tmp_path):
    tokenizer = _vocabulary(b" ", b"\xe5\xba", b"\x8a", b"a")
    assert tokenizer.decode([4, 5]) == "床"
    assert tokenizer.encode("a床") == [3, 6, 0]
    tokenizer.save(tmp_path)
    assert Tokenizer.load(tmp_path).vocab_size == 7


def test_of_two_equal_pieces_the_first_counts():
    tokenizer = _vocabulary(b" ", b"a", b"a", b" a", b" a")
    assert tokenizer.encode("a") == [6]
    assert tokenizer.decode([5]) == "a"


@settings(deadline=None)  # a busy machine is no fault
@given(st.text(alphabet="ab", max_size=12), st.permutations(range(8)))
def test_merging_by_heap_equals_looking_through_all_pairs(text, order):
    pieces = [b"a", b"b", b"ab", b"ba", b"aa", b"aba", b"aab", b"baab"]
    scores = [float(place // 2) for place in order]  # ties as well
    tokenizer = _vocabulary(*pieces, scores=scores)
    tokens = [pieces.index(character.encode()) for character in text]
    while True:
        found = [
            (-scores[pieces.index(joined)], place, pieces.index(joined))
            for place in range(len(tokens) - 1)
            if (joined := pieces[tokens[place]] + pieces[tokens[place + 1]]) in pieces
        ]
        if not found:
            break
        _, place, token = min(found)
        tokens[place : place + 2] = [token]
    assert tokenizer.encode(text) == [token + 3 for token in tokens]


def test_overlapping_ways_to_split_a_piece_merge_leftmost_first_in_the_saved_tokenizer_too(tmp_path):
    tokenizer = _vocabulary(b"a", b"b", b"ab", b"ba", b"aba", scores=[-9.0, -9.0, -1.0, -2.0, 0.0])
    tokenizer.save(tmp_path)
    saved = Tokenizer.load(tmp_path)
    chance = random.Random(0)
    for _ in range(500):
        text = "".join(chance.choices("ab", k=10))
        assert saved.encode(text) == tokenizer.encode(text), text


def test_lines_that_differ_are_counted(tok512, tmp_path):
    other = _vocabulary(b" ", *(bytes([byte]) for byte in range(32, 127)))
    assert tok512.lines_that_differ(other, lines=50) > 40


@pytest.mark.parametrize(("change", "message"), [
    (lambda data: data[:-3], r"cut off"),
    (lambda data: data[:-40] + b"\xff" * 40, r"cut off|no llama2\.c tokenizer"),
    (lambda data: b"", r"0 bytes long"),
    (lambda data: b"{}", r"2 bytes long"),
    (lambda data: data + data[4:20], r"has 51\d pieces, but the model knows 512|cut off"),
])  # fmt: skip
def test_a_file_that_is_damaged_or_none_is_refused(change, message, tmp_path):
    path = tmp_path / "tok.bin"
    path.write_bytes(change(TOK512.read_bytes()))
    with pytest.raises(ModelError, match=message):
        Llama2cTokenizer.read(path, 512)


def test_a_vocabulary_of_another_size_than_the_models_is_refused():
    with pytest.raises(ModelError, match=r"tok512\.bin has 512 pieces, but the model knows 500 ids"):
        Llama2cTokenizer.read(TOK512, 500)


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ModelError, match="no number"):
        _vocabulary(b"a", scores=[float("nan")])


def test_a_lone_surrogate_is_refused(tok512):
    with pytest.raises(DataError, match=r"U\+D800"):
        tok512.encode("a\ud800")
