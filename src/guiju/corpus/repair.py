"""Rules that change a text: each returns the mended text and what it did, or None where it had nothing to do."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import ftfy
from ftfy.chardata import CHARMAP_ENCODINGS

_EXCERPT = 40


@dataclass(frozen=True, slots=True)
class Applied:
    """A rule that changed a document, or dropped it."""

    rule: str
    why: str
    detail: dict[str, object] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        return {"rule": self.rule, "why": self.why, "detail": self.detail}


def excerpt(text: str) -> str:
    """A few characters for the record, with no personal data: digits and words around an @ are blotted out."""
    blotted = re.sub(r"\S*[@＠]\S*", "[...]", re.sub(r"\d", "#", text[:_EXCERPT]))
    return blotted + ("..." if len(text) > _EXCERPT else "")


def repair_surrogates(text: str) -> tuple[str, Applied] | None:
    """Halves of characters, as JSON's \\ud800 can smuggle in: pairs are joined, what is left becomes U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        mended = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return mended, Applied("surrogates", "half a character is no text")
    return None


def _mojibake_pattern() -> re.Pattern[str]:
    """Where UTF-8 may have been read as a one-byte encoding: the first byte's character, then a further byte's.

    ftfy decides; this only spares it the texts, nearly all, that hold no such pair.
    """
    leads: set[str] = set()
    follows = {" "}  # what became of a no-break space on the way
    for encoding in CHARMAP_ENCODINGS:
        leads.update(bytes(range(0xC2, 0xF5)).decode(encoding, "ignore"))
        follows.update(bytes(range(0x80, 0xC0)).decode(encoding, "ignore"))
    return re.compile(f"[{re.escape(''.join(leads))}][{re.escape(''.join(follows))}]|[\x80-\x9f]")


_MOJIBAKE = _mojibake_pattern()


def repair_mojibake(text: str) -> tuple[str, Applied] | None:
    """Undo a wrong decoding, line by line, because one wrong line says nothing of the others (ftfy)."""
    if text.isascii() or not _MOJIBAKE.search(text):
        return None
    lines = text.split("\n")
    count = 0
    examples: list[dict[str, str]] = []
    for number, line in enumerate(lines):
        if line.isascii() or not _MOJIBAKE.search(line):
            continue
        mended = ftfy.fix_encoding(line)
        if mended != line:
            count += 1
            if len(examples) < 3:
                before, after = _difference(line, mended)
                examples.append({"before": excerpt(before), "after": excerpt(after)})
            lines[number] = mended
    if not count:
        return None
    return "\n".join(lines), Applied(
        "mojibake", "text had been decoded with a wrong encoding", {"lines": count, "examples": examples}
    )


def _difference(before: str, after: str) -> tuple[str, str]:
    """What lies between the common beginning and the common end."""
    start = 0
    while start < min(len(before), len(after)) and before[start] == after[start]:
        start += 1
    end = 0
    while end < min(len(before), len(after)) - start and before[-1 - end] == after[-1 - end]:
        end += 1
    return before[start : len(before) - end], after[start : len(after) - end]


def normalise(text: str) -> tuple[str, Applied] | None:
    if unicodedata.is_normalized("NFC", text):
        return None
    mended = unicodedata.normalize("NFC", text)
    if mended == text:
        return None
    return mended, Applied("nfc", "equal characters are written in one way: Unicode normal form C")


# Emoji and the scripts of Iran, India and South-East Asia need their joiners; the others do not.
_JOINERS = "(?:^|(?<=[\\t-\u024f\u2010-\u2027\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]))[\u200c\u200d]+"
_CONTROLS = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\ufdd0-\ufdef\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f]|" + _JOINERS,
)
_PLAIN = re.compile(r"[\t\n -~]*")


def strip_controls(text: str) -> tuple[str, Applied] | None:
    """Take out control, zero-width and direction characters: unseen, they can hide words from every filter."""
    if text.isascii() and _PLAIN.fullmatch(text):
        return None
    found: Counter[str] = Counter()

    def take(match: re.Match[str]) -> str:
        found.update(f"U+{ord(character):04X}" for character in match.group())
        return ""

    mended = _CONTROLS.sub(take, text)
    if not found:
        return None
    return mended, Applied(
        "controls", "characters that are not seen were taken out", {"taken_out": dict(sorted(found.items()))}
    )


_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_EMPTY_LINES = re.compile("\n{3,}")


def tidy_whitespace(text: str) -> tuple[str, Applied] | None:
    mended = _LINE_ENDS.sub("\n", text).replace("\u00a0", " ")
    mended = "\n".join([line.rstrip() for line in mended.split("\n")])
    mended = _EMPTY_LINES.sub("\n\n", mended).strip("\n")
    if mended == text:
        return None
    return mended, Applied("whitespace", "line ends, trailing spaces and empty lines were made even")


_FRAME_START = re.compile(r"^[ \t]*\*{3}[ \t]*START OF (?:THE|THIS) PROJECT GUTENBERG[^\n]*(?:\n|$)", re.M | re.I)
_FRAME_END = re.compile(r"^[ \t]*(?:\*{3}[ \t]*)?END OF (?:THE |THIS )?PROJECT GUTENBERG", re.M | re.I)
_OLD_FRAME_START = re.compile(r"^\*END[* ]*THE SMALL PRINT[^\n]*(?:\n|$)", re.M | re.I)
_NAVIGATION = (
    "home|about|about us|contact|contact us|login|log in|sign in|sign up|register|logout|privacy|privacy policy|"
    "terms|terms of use|terms of service|sitemap|site map|search|help|faq|next|previous|prev|back|back to top|menu|"
    "skip to content|news|blog|archive|archives|subscribe|rss|share|tweet|print|email|"
    "首页|主页|关于我们|关于|联系我们|联系|登录|登陆|注册|退出|网站地图|隐私|隐私政策|使用条款|服务条款|帮助|帮助中心|搜索|"
    "上一页|下一页|上一篇|下一篇|上一章|下一章|返回|返回首页|返回顶部|目录|更多|收藏|收藏本站|设为首页|分享|打印|举报|"
    "友情链接|广告服务|手机版"
)
_NAVIGATION_WORDS = frozenset(_NAVIGATION.split("|"))
_NAVIGATION_GAP = re.compile(r"\s*[|｜·•»›>/]\s*|\s{2,}|\u3000+")
_BOILERPLATE_LINE = re.compile(
    r"(?:skip|jump) to (?:main |the )?(?:content|navigation)\W*"
    r"|(?:copyright )?(?:©|\(c\)|copyright) ?(?:\(c\)|©)? ?\d{4}.{0,80}"
    r"|.{0,60}all rights reserved\W{0,3}"
    r"|(?:this|our) (?:web)?site uses cookies.{0,80}|we use cookies.{0,80}"
    r"|(?:please )?enable javascript.{0,60}"
    r"|版权所有.{0,60}|.{0,40}保留所有权利。?|.{0,20}未经.{0,12}(?:授权|许可|同意).{0,10}(?:不得|禁止|严禁).{0,4}转载.{0,10}"
    r"|分享到[：:]?.{0,40}|责任编辑[：:].{0,20}|[京沪粤浙苏闽川渝津鲁]ICP[备证].{0,30}",
    re.I,
)
_LONGEST_BOILERPLATE = 120


# Without one of these a text holds no such line; looking for them is far quicker than matching every line.
_NOTICE_SIGNS = (
    "skip to ", "jump to ", "copyright", "©", "(c)", "all rights reserved", "cookies", "javascript",
    "版权所有", "保留所有权利", "转载", "分享到", "责任编辑", "icp",
)  # fmt: skip
_GAP_SIGNS = ("|", "｜", "·", "•", "»", "›", ">", "/", "  ", "\u3000")
_FRAME_SIGN = "project gutenberg", "small print"


def _is_notice(line: str) -> bool:
    return len(line) <= _LONGEST_BOILERPLATE and _BOILERPLATE_LINE.fullmatch(line) is not None


def _is_navigation(line: str) -> bool:
    """Most of its parts are what sites write into their menus."""
    if len(line) > _LONGEST_BOILERPLATE or line[:1] == "|":  # a row of a Markdown table begins with a bar
        return False
    if not any(sign in line for sign in _GAP_SIGNS):
        return False
    items = [item.strip().lower() for item in _NAVIGATION_GAP.split(line) if item.strip()]
    return len(items) >= 2 and sum(item in _NAVIGATION_WORDS for item in items) * 2 > len(items)


def strip_boilerplate(text: str, repeated: Collection[str]) -> tuple[str, Applied] | None:
    """Cut a Project Gutenberg frame, navigation and notice lines, and lines that a source's documents repeat.

    Args:
        repeated: whole lines, stripped, that stand at the edge of many documents of the source.
    """
    lowered = text.lower()
    mended, frame = text, 0
    if any(sign in lowered for sign in _FRAME_SIGN):
        mended, frame = _without_frame(text)
    checks: list[Callable[[str], bool]] = []
    if any(sign in lowered for sign in _NOTICE_SIGNS):
        checks.append(_is_notice)
    if any(sign in text for sign in _GAP_SIGNS):
        checks.append(_is_navigation)
    if any(line in text for line in repeated):
        checks.append(repeated.__contains__)
    if not checks and not frame:
        return None
    kept: list[str] = []
    removed: list[str] = []
    for line in mended.split("\n"):
        bare = line.strip()
        (removed if bare and any(check(bare) for check in checks) else kept).append(line)
    if not frame and not removed:
        return None
    mended = _EMPTY_LINES.sub("\n\n", "\n".join(kept)).strip("\n")
    examples = [excerpt(line.strip()) for line in removed[:3]]
    detail: dict[str, object] = {"frame_characters": frame, "lines": len(removed), "examples": examples}
    return mended, Applied("boilerplate", "the publisher's frame or a site's navigation is not the text", detail)


def _without_frame(text: str) -> tuple[str, int]:
    """The text between Project Gutenberg's header and its footer, and how many characters were cut."""
    inner = text
    start = _FRAME_START.search(text) or _OLD_FRAME_START.search(text)
    if start:
        inner = text[start.end() :]
    end = _FRAME_END.search(inner)
    if end:
        inner = inner[: end.start()]
    return inner, len(text) - len(inner)
