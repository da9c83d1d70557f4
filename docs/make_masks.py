"""Draws docs/images/masks/ from the mask functions: who may look at whom, one picture a mask.

`python docs/make_masks.py` writes the pictures; a test fails when they are not what the code draws.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from guiju.model.masks import (
    both,
    causal_mask,
    document_mask,
    padding_mask,
    prefix_mask,
    same_document_mask,
    window_mask,
)
from guiju.pages import Html, Text, tag

FOLDER = Path(__file__).parent / "images" / "masks"
CELL, LABELS, TOP, GAP = 26, 92, 132, 56
STYLE = """
  svg { --paper: #fcfbf8; --ink: #1f1e1b; --soft: #63605a; --rule: #dcd8ce; --seen: #2c4a7c; }
  @media (prefers-color-scheme: dark) {
    svg { --paper: #191a1c; --ink: #e7e4dc; --soft: #a29e95; --rule: #3a3b3e; --seen: #8fb0e6; } }
  text { font-family: system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif; fill: var(--ink); }
  .title { font-size: 17px; font-weight: 600; } .about { font-size: 12.5px; } .soft { fill: var(--soft); }
  .token { font-size: 12px; } .panel { font-size: 13px; font-weight: 600; }
  .paper { fill: var(--paper); } .cell { fill: none; stroke: var(--rule); }
  .seen { fill: var(--seen); } .hidden { fill: var(--rule); } .pad { fill: var(--soft); font-style: italic; }
"""
PAD = "[pad]"
SENTENCE = ("the", "cat", "sat", "on", "a", "mat")


@dataclass(frozen=True)
class Panel:
    """One mask: rows are the tokens that look, columns those that are looked at."""

    title: Text
    rows: Sequence[str]
    columns: Sequence[str]
    mask: Tensor  # (T, S)


@dataclass(frozen=True)
class Picture:
    name: str
    title: Text
    about: Text
    panels: tuple[Panel, ...]


def pictures() -> list[Picture]:
    """Every mask of guiju.model.masks."""
    decoder, encoder = Text("in a decoder", "解码器中"), Text("in an encoder", "编码器中")
    six = len(SENTENCE)
    right, left = ("the", "cat", "sat", PAD, PAD), (PAD, PAD, "the", "cat", "sat")
    packed = ("the", "cat", "sat", "hello", "world")
    documents, others = torch.tensor([[0, 0, 0, 1, 1]]), torch.tensor([[0, 0, 1, 1, 1, 1]])
    return [
        Picture(
            "causal",
            Text("Causal mask", "因果掩码"),
            Text("Each token sees those before it and itself.", "每个词元只能看到自己和它之前的词元。"),
            (
                Panel(Text("a whole text", "整段文本"), SENTENCE, SENTENCE, causal_mask(six, six)),
                Panel(Text("2 new after 4 cached", "已缓存4个，新读2个"), SENTENCE[4:], SENTENCE, causal_mask(2, six)),
            ),
        ),
        *(_padding(name, side, tokens, decoder, encoder) for name, side, tokens in (
            ("padding-right", Text("on the right", "右侧"), right),
            ("padding-left", Text("on the left", "左侧"), left),
        )),
        Picture(
            "prefix",
            Text("Prefix mask", "前缀掩码"),
            Text("Three tokens see each other; the rest is causal.", "前三个词元互相可见，其余为因果掩码。"),
            (Panel(decoder, SENTENCE, SENTENCE, _flat(prefix_mask(torch.tensor([3]), six))),),
        ),
        Picture(
            "window",
            Text("Sliding window", "滑动窗口掩码"),
            Text("Each token sees itself and the two before it.", "每个词元只能看到自己和前面两个词元。"),
            (Panel(decoder, SENTENCE, SENTENCE, window_mask(six, six, 3)),),
        ),
        Picture(
            "documents",
            Text("Packed documents", "文档掩码（打包）"),
            Text("Two texts share a row and never see each other.", "两篇文本同处一行，互不可见。"),
            (
                Panel(decoder, packed, packed, _flat(document_mask(documents))),
                Panel(encoder, packed, packed, _flat(same_document_mask(documents))),
            ),
        ),
        Picture(
            "cross",
            Text("Cross-attention", "交叉注意力掩码"),
            Text(
                "A decoder's tokens see the source's: all real ones, or those of their own document.",
                "解码器的词元看到源文本：全部真实词元，或只有同一文档的词元。",
            ),
            (
                Panel(
                    Text("a padded source", "有填充的源文本"),
                    ("die", "Katze", "sass"),
                    right,
                    _flat(padding_mask(_real(right))).expand(3, -1),
                ),
                Panel(
                    Text("packed pairs", "打包的成对文本"),
                    ("die", "Katze", "sass", "hallo", "Welt"),
                    ("the", "cat", "hello", "to", "the", "world"),
                    _flat(same_document_mask(documents, others)),
                ),
            ),
        ),
    ]  # fmt: skip


def _padding(name: str, side: Text, tokens: tuple[str, ...], decoder: Text, encoder: Text) -> Picture:
    mask = _flat(padding_mask(_real(tokens))).expand(len(tokens), -1)
    causal = both(mask, causal_mask(len(tokens), len(tokens)))
    assert causal is not None
    return Picture(
        name,
        Text("Padding {side}", "{side}填充掩码").format(side=side),
        Text("No token sees what only fills a row up.", "填充词元对所有词元不可见。"),
        (Panel(decoder, tokens, tokens, causal), Panel(encoder, tokens, tokens, mask)),
    )


def _real(tokens: Sequence[str]) -> Tensor:
    return torch.tensor([[word != PAD for word in tokens]])


def _flat(mask: Tensor) -> Tensor:
    return mask[0, 0]


def draw(picture: Picture) -> str:
    """The picture as SVG, with its legend in both languages."""
    parts, x, lowest = [], 24, 0
    for panel in picture.panels:
        drawn, width, bottom = _panel(panel, x)
        parts.append(drawn)
        x, lowest = x + width + GAP, max(lowest, bottom)
    width = max(x - GAP + 24, 560, 48 + 7 * len(picture.about.en), 48 + 13 * len(picture.about.zh))
    height = lowest + 54
    about = picture.about
    whole = tag(
        "svg",
        tag("title", f"{picture.title.en}: {about.en} {picture.title.zh}：{about.zh}"),
        tag("style", Html(STYLE)),
        tag("rect", class_="paper", width="100%", height="100%", rx=8),
        tag("text", f"{picture.title.en} · {picture.title.zh}", class_="title", x=24, y=34),
        tag("text", about.en, class_="about", x=24, y=56),
        tag("text", about.zh, class_="about", x=24, y=75, lang="zh-CN"),
        parts,
        _legend(height - 20),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="img",
    )
    return whole.replace("><", ">\n<") + "\n"


def _panel(panel: Panel, left: int) -> tuple[list[Html], int, int]:
    """What it is made of, its width, and how far down it reaches."""
    start, top = left + LABELS, TOP + 52
    parts = [tag("text", f"{panel.title.en} · {panel.title.zh}", class_="panel", x=left, y=TOP - 22)]
    for column, token in enumerate(panel.columns):
        place = f"translate({start + column * CELL + 17} {top - 8}) rotate(-55)"
        parts.append(tag("text", token, class_=_token_class(token), transform=place))
    for row, token in enumerate(panel.rows):
        y = top + row * CELL
        parts.append(tag("text", token, class_=_token_class(token), x=start - 10, y=y + 18, text_anchor="end"))
        for column in range(len(panel.columns)):
            parts.append(_cell(start + column * CELL, y, bool(panel.mask[row, column])))
    width = max(LABELS + len(panel.columns) * CELL, 7 * len(panel.title.en) + 14 * len(panel.title.zh) + 20)
    return parts, width, top + len(panel.rows) * CELL


def _cell(x: int, y: int, seen: bool) -> Html:
    """Told apart by shape as well as by colour."""
    frame = tag("rect", class_="cell", x=x, y=y, width=CELL, height=CELL)
    if seen:
        inside = tag("rect", class_="seen", x=x + 3, y=y + 3, width=CELL - 6, height=CELL - 6, rx=4)
    else:
        inside = tag("circle", class_="hidden", cx=x + CELL / 2, cy=y + CELL / 2, r=2.5)
    return Html(frame + inside)


def _legend(y: int) -> list[Html]:
    texts = (True, "may look 可见", 24), (False, "may not 不可见", 176)
    parts = [tag("text", "rows look at columns 行看列", class_="about soft", x=350, y=y)]
    for seen, text, x in texts:
        parts += [_cell(x, y - 18, seen), tag("text", text, class_="about soft", x=x + CELL + 8, y=y)]
    return parts


def _token_class(token: str) -> str:
    return "token pad" if token == PAD else "token"


def main() -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    drawn = {FOLDER / f"{picture.name}.svg": draw(picture) for picture in pictures()}
    if "--check" in sys.argv:
        wrong = [path.name for path, text in drawn.items() if not path.exists() or path.read_text("utf-8") != text]
        return bool(wrong) and print("not what the code draws:", *wrong) is None
    for path, text in drawn.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
