"""What may come next in one text under way: ids that never may, ids that must, and the form that the text is held to.

A LogitFilter (guiju.generation.sampling): it gives -inf to what may not come, in logits and log-probabilities alike, as
transformers' logits processors do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from guiju.errors import ConfigError
from guiju.generation.grammar import GrammarState


@dataclass(frozen=True)
class Forced:
    """Ids that a model's config asks for at a generation's ends."""

    limit: int
    """Tokens of the continuation at most."""

    first: int | None = None
    last: int | None = None
    never: tuple[int, ...] = ()

    def at(self, place: int) -> int | None:
        """The only id that may stand at a place, counted from 0; None where it is free."""
        if place == 0 and self.first is not None:
            return self.first
        return self.last if place == self.limit - 1 else None


class Restriction:
    """The state of one text: how many tokens it has, and where it stands in its form."""

    def __init__(self, forced: Forced, form: GrammarState | None = None) -> None:
        self.forced = forced
        self.form = form
        self.cut = False
        """Whether the last token is one that the limit forced."""
        self._place = 0

    def __call__(self, logits: Tensor) -> Tensor:
        """See LogitFilter."""
        only = self.forced.at(self._place)
        if only is not None:
            logits = torch.full_like(logits, -math.inf)
            logits[only] = 0
            return logits
        if self.forced.never:
            logits = logits.index_fill(0, torch.tensor(self.forced.never, device=logits.device), -math.inf)
        if self.form is None:
            return logits
        allowed = torch.from_numpy(self.form.allowed()).to(logits.device)
        held = logits.masked_fill(~allowed, -math.inf)
        if held.max() == -math.inf:
            raise ConfigError(
                f"after {self._place} tokens the form allows none that model and tokenizer have, and the text may "
                f"not end there. Give another form"
            )
        return held

    def accept(self, token: int) -> None:
        """See LogitFilter."""
        if self.forced.at(self._place) is not None:
            self.cut = self._place == self.forced.limit - 1
        elif self.form is not None:
            self.form.accept(token)
        self._place += 1

    @property
    def finished(self) -> bool:
        """Whether the text has its whole form, and nothing can come any more."""
        return self.form is not None and self.form.finished

    def copy(self) -> Restriction:
        """A second one that goes on from here on its own."""
        twin = Restriction(self.forced, None if self.form is None else self.form.copy())
        twin._place, twin.cut = self._place, self.cut
        return twin
