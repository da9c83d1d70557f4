from __future__ import annotations

import gzip
import json
import os
import re
import time
import unicodedata
from pathlib import Path

import pytest

from guiju.corpus.characters import count_characters
from guiju.corpus.quality import Languages, check_length, check_longest, check_quality, check_repetition
from guiju.corpus.repair import (
    excerpt,
    normalise,
    repair_mojibake,
    repair_surrogates,
    strip_boilerplate,
    strip_controls,
    tidy_whitespace,
)
from guiju.corpus.settings import CleaningSettings
from guiju.corpus.shingles import shingle_hashes, token_hashes

SETTINGS = CleaningSettings()
PROSE = "It was the best of times, it was the worst of times. Everybody in the city remembered that long winter. "
CHINESE = "这一年的冬天特别长，城里的人都记得。老张每天早上五点起床，先烧水，再去河边挑两桶水回来。"


def misread(text: str, encoding: str) -> str:
    """UTF-8 bytes read with a wrong decoder, as a careless program does it."""
    return text.encode().decode(encoding)


@pytest.mark.parametrize("encoding", ["latin-1", "windows-1252"])
@pytest.mark.parametrize(
    "text", ["naïve café, déjà vu", "“quoted” — and so on…", "€ 20", "中文很好，真的。", "Ελληνικά", "привет"]
)
def test_mojibake_is_repaired_inside_valid_utf8(text, encoding):
    try:
        broken = misread(text, encoding)
    except UnicodeDecodeError:
        pytest.skip(f"{encoding} has no character for one of these bytes: such mojibake cannot come about")
    assert broken.encode().decode() == broken != text
    mended, applied = repair_mojibake(f"{PROSE}\n{broken}\n{CHINESE}")
    assert mended == f"{PROSE}\n{text}\n{CHINESE}"
    assert applied.detail["lines"] == 1


def test_mojibake_within_a_good_line_is_repaired():
    line = f"他说{misread('é', 'latin-1')}，然后走了。"
    mended, _ = repair_mojibake(line)
    assert mended == "他说é，然后走了。"


@pytest.mark.parametrize(
    "text",
    [
        PROSE.strip(),
        CHINESE,
        "“Très bien,” said the naïve façade-builder — “à propos…”",
        "Größe, Ärger, Übermut; São Paulo; smørrebrød; 10 °C ± 2 µm",
        "Москва и Санкт-Петербург",
        "𝒳 ≥ ½ × ∑ √2 → ∞ ★ ☺ 👩‍👩‍👧",
        "床前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。",
    ],
)
def test_sound_text_is_left_alone(text):
    assert repair_mojibake(text) is None
    assert normalise(text) is None
    assert strip_controls(text) is None
    assert tidy_whitespace(text) is None
    assert strip_boilerplate(text, frozenset()) is None


def test_halves_of_characters_are_joined_or_replaced():
    pair = json.loads('"\\ud83d" ') + json.loads('"\\ude00"')
    assert repair_surrogates(pair)[0] == "😀"
    assert repair_surrogates("a\ud800b")[0] == "a\ufffdb"
    assert repair_surrogates("plain 😀") is None


def test_normal_form_is_c_and_keeps_full_width_punctuation():
    assert normalise("cafe\u0301")[0] == "café"
    assert normalise("ｆｕｌｌ，宽。") is None


def test_unseen_characters_are_taken_out_and_counted():
    mended, applied = strip_controls("\ufeffca\u200bt\x00 s\u00adat \u202eon\u202c it\x07")
    assert mended == "cat sat on it"
    assert applied.detail["taken_out"] == {
        "U+0000": 1, "U+0007": 1, "U+00AD": 1, "U+200B": 1, "U+202C": 1, "U+202E": 1, "U+FEFF": 1,
    }  # fmt: skip


def test_joiners_stay_where_a_script_needs_them():
    persian, emoji = "می\u200cخواهم", "👩\u200d👧"
    assert strip_controls(persian) is None
    assert strip_controls(emoji) is None
    assert strip_controls("ba\u200dd 坏\u200c人")[0] == "bad 坏人"


def test_white_space_is_made_even():
    text = "\n\n　　first\u00a0line  \t\r\nsecond\u2028third\n\n\n\n\nlast \n\n"
    assert tidy_whitespace(text)[0] == "　　first line\nsecond\nthird\n\nlast"


@pytest.mark.parametrize("rule", [tidy_whitespace, strip_controls, normalise, lambda text: strip_boilerplate(text, ())])
def test_rules_take_time_in_proportion_to_the_text(rule):
    """No hostile text makes a rule quadratic: ten times the text takes well below a hundred times the time."""

    def seconds(size: int) -> float:
        best = 1e9
        for _ in range(3):
            text = (" " * size + "x") + "\n" * size + "| " * size + "copyright " * (size // 10) + "\u200d" * size
            began = time.perf_counter()
            rule(text)
            best = min(best, time.perf_counter() - began)
        return best

    assert seconds(200_000) < 40 * seconds(20_000) + 0.05


def test_a_gutenberg_frame_is_cut():
    text = (
        "The Project Gutenberg eBook of Alice\n\nThis ebook is for the use of anyone.\n\n"
        "*** START OF THE PROJECT GUTENBERG EBOOK ALICE ***\n\nDown the rabbit hole.\nAlice was tired.\n\n"
        "*** END OF THE PROJECT GUTENBERG EBOOK ALICE ***\n\nUpdated editions will replace the previous one.\n"
    )
    mended, applied = strip_boilerplate(text, frozenset())
    assert mended == "Down the rabbit hole.\nAlice was tired."
    assert applied.detail["frame_characters"] > 100


def test_a_real_gutenberg_text_loses_its_frame(data_folder):
    text = gzip.decompress((data_folder / "tokenizer-sentencepiece" / "botchan.txt.gz").read_bytes()).decode(
        "utf-8-sig"
    )
    mended, _ = strip_boilerplate(text, frozenset())
    assert "START OF" in text
    assert "START OF" not in mended
    assert "END OF THIS PROJECT" not in mended.upper()
    assert len(mended) > 0.9 * len(text)


@pytest.fixture
def data_folder() -> Path:
    folder = os.environ.get("GUIJU_DATA")
    if not folder or not (Path(folder) / "tokenizer-sentencepiece").is_dir():
        pytest.skip("GUIJU_DATA does not lead to tokenizer-sentencepiece/botchan.txt.gz, a book with Gutenberg's frame")
    return Path(folder)


@pytest.mark.parametrize(
    "line",
    [
        "Home | About us | Contact | Login",
        "首页 | 关于我们 | 联系我们",
        "首页　登录　注册",
        "上一章 目录 下一章".replace(" ", "  "),
        "Home > News > Archive",
        "Skip to main content",
        "© 2019 Example Press. All rights reserved.",
        "Copyright (c) 2001-2004 by the authors",
        "版权所有 某某出版社",
        "未经授权不得转载",
        "分享到：微信 微博",
        "This website uses cookies to improve your experience.",
    ],
)
def test_navigation_and_notices_are_cut(line):
    mended, applied = strip_boilerplate(f"{PROSE}\n{line}\n{CHINESE}", frozenset())
    assert mended == f"{PROSE}\n{CHINESE}"
    assert applied.detail["lines"] == 1


@pytest.mark.parametrize(
    "line",
    [
        "| Home | About |",
        "He went home and searched for help.",
        "春花／秋月 / 何时了",
        "a/b and c|d",
        "The copyright of the play was his, and all rights reserved to him by the court that had sat upon it in May.",
        "关于这件事，首页没有写。",
    ],
)
def test_lines_that_only_look_like_navigation_stay(line):
    assert strip_boilerplate(f"{PROSE}\n{line}\n{CHINESE}", frozenset()) is None


def test_lines_that_a_source_repeats_are_cut():
    assert strip_boilerplate("正文。\n(本章完)", frozenset({"(本章完)"}))[0] == "正文。"


def test_counts_of_characters_equal_counting_one_by_one():
    texts = ["", "a b\n2 c", CHINESE, "カタカナ ひらがな 漢字", "\ufffd★√ ½", PROSE, "", "naïve, ９ ①", " \u3000 "]
    punctuation = set(".,;:!?'\"()[]-_‘’“”–—…、。，；：！？（）《》〈〉「」『』【】〔〕·・～")
    for text, counts in zip(texts, count_characters(texts), strict=True):
        assert counts.characters == len(text)
        assert counts.solid == len("".join(text.split()))
        assert counts.words == len(text.split())
        assert counts.letters == sum(c.isalpha() for c in text)
        assert counts.han == len(re.findall(r"[\u3400-\u9fff]", text))
        assert counts.lost == text.count("\ufffd")
        assert counts.digits == sum(c.isdigit() for c in text if c not in punctuation)
        assert counts.symbols == sum(
            not (c.isalnum() or c.isspace() or c in punctuation or c == "\ufffd") for c in text
        )


def verdict(text: str, settings: CleaningSettings = SETTINGS) -> str | None:
    counts = count_characters([text])[0]
    found = check_longest(text, settings) or check_length(counts, settings) or check_quality(text, counts, settings)
    found = found or check_repetition(shingle_hashes(token_hashes(text), 5), settings)
    return found.rule if found else None


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("short.", "too-short"),
        ("     \n " * 50, "too-short"),
        (PROSE * 30_000, "too-long"),
        (PROSE + "\ufffd" * 3, "replacement-characters"),
        ("=+=+ #### $$$ %%% ^^^ &&& *** " * 5 + "some words", "symbols"),
        ("2019 384 11 8274 2873 9912 38 4471 and 12 more", "digits"),
        ("Buy now.\n" * 8 + "One other line.\n", "repeated-lines"),
        ("the cat sat on the mat and " * 30, "repeated-ngrams"),
        ("我们的产品真的很好用" * 20, "repeated-ngrams"),
        ("Qm9yaW5nIGJhc2U2NCB0ZXh0IHRoYXQgbm9ib2R5IGNhbiByZWFk" * 3, "word-length"),
        (PROSE, None),
        (CHINESE, None),
    ],
)
def test_each_rule_drops_what_it_is_for(text, rule):
    assert verdict(text) == rule


def test_thresholds_are_the_settings(tmp_path):
    assert verdict(PROSE, CleaningSettings(min_characters=500)) == "too-short"
    assert verdict(PROSE, CleaningSettings(max_characters=50)) == "too-long"
    assert verdict("short.", CleaningSettings(min_characters=1)) is None


@pytest.fixture(scope="module")
def languages() -> Languages:
    return Languages()


GERMAN = "Der Winter war in diesem Jahr besonders lang, und alle Leute in der Stadt erinnerten sich noch lange daran."
JAPANESE = "この冬はとても長かったので、町の人々はみんなよく覚えている。毎朝五時に起きて水を汲みに行った。"


@pytest.mark.parametrize(
    ("text", "expected", "language", "dropped"),
    [
        (PROSE, ("en",), "en", False),
        (CHINESE, ("zh",), "zh", False),
        (CHINESE, ("en", "zh"), "zh", False),
        (PROSE, ("zh", "en"), "en", False),
        (GERMAN, ("en",), "de", True),
        (PROSE, ("zh",), "en", True),
        (CHINESE, ("en",), "zh", True),
        (JAPANESE, ("zh",), "ja", True),
        (GERMAN, (), "de", False),
        ("Ok.", ("zh",), "zh", False),
        ("床前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。", ("zh",), "zh", False),
        ("帝高阳之苗裔兮，朕皇考曰伯庸。摄提贞于孟陬兮，惟庚寅吾以降。", ("zh",), "zh", False),
    ],
)
def test_a_language_that_was_not_stated_is_found(languages, text, expected, language, dropped):
    found, applied = languages.detect(text, count_characters([text])[0], expected, 0.9)
    assert (found, applied is not None) == (language, dropped)


def test_real_texts_are_taken_for_what_they_are(languages, examples):
    """Of the shipped English and Chinese texts, none is dropped as another language, but for lines of other tongues."""
    for name, code, texts in examples:
        dropped = sum(
            languages.detect(text, counts, (code,), 0.9)[1] is not None
            for text, counts in zip(texts, count_characters(texts), strict=True)
        )
        assert dropped <= 0.002 * len(texts), name


@pytest.fixture(scope="module")
def examples() -> list[tuple[str, str, list[str]]]:
    folder = Path(__file__).parents[2] / "examples" / "data"
    stories = gzip.decompress((folder / "tinystories" / "tinystories_sample.train.txt.gz").read_bytes()).decode()
    poems = json.loads(gzip.decompress((folder / "chinese-poetry" / "poet.tang.0.json.gz").read_bytes()))
    return [
        ("tinystories", "en", [story.strip() for story in stories.split("<|endoftext|>") if story.strip()]),
        ("poems", "zh", ["\n".join(poem["paragraphs"]) for poem in poems]),
    ]


@pytest.mark.parametrize(
    "private",
    [
        "13800138000",
        "110101199003074514",
        "a.b@example.com",
        "6222021234567890123",
        "192.168.10.24",
        "Ｅ１２３４５６７８",
    ],
)
def test_an_excerpt_for_the_record_holds_no_personal_data(private):
    for text in (private, f"call {private} now", private * 3, f"x{private}"):
        shown = excerpt(text)
        assert private not in shown
        assert not re.search(r"\d", shown)
        assert unicodedata.normalize("NFKC", private) not in unicodedata.normalize("NFKC", shown)
