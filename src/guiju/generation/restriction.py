"""What may come next in one text under way: ids that never may, ids that must, and the form that the text is held to.

A LogitFilter (guiju.generation.sampling): it gives -inf to what may not come, in logits and log-probabilities alike, as
transformers' logits processors do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import NDArray

from guiju.errors import ConfigError
from guiju.generation.grammar import GrammarState

if TYPE_CHECKING:
    from torch import Tensor


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
        if place == self.limit - 1 and self.last is not None:
            return self.last
        return self.first if place == 0 else None


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
        import torch  # other libraries' logits are restricted without it

        allowed = self.allowed(logits.numel())
        if allowed is None:
            return logits
        held = logits.masked_fill(~torch.from_numpy(allowed).to(logits.device), -math.inf)
        only = self.forced.at(self._place)
        if only is not None:
            held[only] = 0
        elif held.max() == -math.inf:
            self.refuse()
        return held

    def allowed(self, vocab_size: int) -> NDArray[np.bool_] | None:
        """(vocab,), True where an id may come next; None where all may."""
        only = self.forced.at(self._place)
        if only is not None:
            alone = np.zeros(vocab_size, dtype=np.bool_)
            alone[only] = True
            return alone
        form = None if self.form is None else self.form.allowed()
        if not self.forced.never:
            return form
        allowed = np.ones(vocab_size, dtype=np.bool_) if form is None else form.copy()
        allowed[list(self.forced.never)] = False
        return allowed

    def refuse(self) -> NoReturn:
        """Say that nothing can come next."""
        raise ConfigError(
            f"after {self._place} tokens the form allows none that model and tokenizer have, and the text may "
            f"not end there. Give another form"
        )

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
