"""What a report says of a model by what it was to learn: a decoder's next token, masked tokens, cut-out runs, pairs."""

from __future__ import annotations

from dataclasses import dataclass

from guiju.audit.report.story import Story
from guiju.pages import Text


@dataclass(frozen=True, kw_only=True)
class Wording:
    measure: str
    """The measurement on record that says how good the model is."""
    learning: Text
    held_out: Text
    """Title of what is measured on held-out text."""
    tile: Text
    targets: Text
    """What the tokens it learned from are."""


_CURVE = Text(
    "The lower the line, the better the model guesses {what}. A useful model beats simple counting.",
    "曲线越低，模型越能猜中{what}；一个有用的模型必须胜过简单计数。",
)

WORDINGS = {
    "next-token": Wording(
        measure="bits_per_byte",
        learning=_CURVE.format(what=Text("what comes next", "下文")),
        held_out=Text("Bits spent on a byte of held-out text; less is better", "留出文本每字节所需比特数，越少越好"),
        tile=Text("bits per byte of unseen text", "未见文本每字节比特数"),
        targets=Text("tokens learned from", "学习词元"),
    ),
    "masked-tokens": Wording(
        measure="masked_bits_per_byte",
        learning=_CURVE.format(what=Text("what was hidden from it", "被遮盖的词元")),
        held_out=Text(
            "Bits spent on a byte of masked tokens of held-out text; less is better",
            "留出文本中被遮盖词元每字节所需比特数，越少越好",
        ),
        tile=Text("bits per byte of masked unseen text", "未见文本遮盖部分每字节比特数"),
        targets=Text("masked tokens learned from", "学习的遮盖词元"),
    ),
    "spans": Wording(
        measure="target_bits_per_byte",
        learning=_CURVE.format(what=Text("what was cut out of the text it reads", "原文中被挖去的片段")),
        held_out=Text(
            "Bits spent on a byte of what was cut out of held-out text; less is better",
            "留出文本中被挖去片段每字节所需比特数，越少越好",
        ),
        tile=Text("bits per byte of what was cut out", "被挖去片段每字节比特数"),
        targets=Text("target tokens learned from", "学习的目标词元"),
    ),
    "pairs": Wording(
        measure="target_bits_per_byte",
        learning=_CURVE.format(what=Text("the target of what it reads", "与原文对应的译文")),
        held_out=Text("Bits spent on a byte of held-out targets; less is better", "留出译文每字节所需比特数，越少越好"),
        tile=Text("bits per byte of unseen targets", "未见译文每字节比特数"),
        targets=Text("target tokens learned from", "学习的目标词元"),
    ),
}
"""By objective. Records of before there were several name none, and mean the first."""


def wording(story: Story) -> Wording:
    """The words for what this run's model was to learn."""
    objective = story.summary("pretrain").get("objective")
    return WORDINGS.get(str(objective), WORDINGS["next-token"])
