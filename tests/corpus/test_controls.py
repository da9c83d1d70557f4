"""A masker that does nothing is noticed before it is trusted with a document."""

import pytest

from guiju.corpus import KINDS, controls, masking_controls
from guiju.errors import DataError


def test_every_kind_has_a_planted_text_and_a_near_miss():
    assert set(controls.PLANTED) == set(KINDS)
    body = masking_controls(KINDS)
    assert body["count"] == body["n"] == 2 * len(KINDS)


def test_a_masker_without_effect_stops_the_corpus(monkeypatch):
    monkeypatch.setattr(controls, "mask_personal_data", lambda text, kinds: (text, []))
    with pytest.raises(DataError, match="masking email has no effect"):
        masking_controls(KINDS)


def test_a_masker_that_takes_everything_stops_the_corpus(monkeypatch):
    real = controls.mask_personal_data

    def greedy(text, kinds):
        masked, spans = real(text, kinds)
        return masked, spans or [controls_span(text)]

    def controls_span(text):
        from guiju.corpus import Span

        return Span(0, len(text), "email")

    monkeypatch.setattr(controls, "mask_personal_data", greedy)
    with pytest.raises(DataError, match="which only looks like it"):
        masking_controls(KINDS)
