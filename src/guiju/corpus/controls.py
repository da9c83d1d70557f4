"""Whether masking works at all, tried on planted text before any document is read.

A corpus in which nothing was found and a masker that finds nothing look the same. So each kind of personal data is
planted once, with a near miss beside it: the one must go, and the other must stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from guiju.corpus.personal_data import mask_personal_data
from guiju.errors import DataError

PLANTED: dict[str, tuple[str, str]] = {
    "email": ("write to ada@example.com today", "user at example dot com"),
    "cn-identity": ("身份证号110101199003071233。", "身份证号110101199003071234。"),
    "cn-credit-code": ("税号91110000600037341L开票", "税号91110000600037341M开票"),
    "iban": ("GB82 WEST 1234 5698 7654 32", "GB82WEST12345698765433"),
    "cn-bank-card": ("卡号 6222 0200 0000 0000 000", "6222020000000000001"),
    "card": ("4111 1111 1111 1111", "4111111111111112"),
    "cn-mobile": ("手机138-1234-5678。", "12812345678"),
    "cn-plate": ("京A12345", "京A1234"),
    "cn-passport": ("护照号码：E12345678", "part E12345678"),
    "ip": ("from 8.8.8.8:53", "version 10.0.190.11"),
    "phone": ("+44 20 7946 0958", "2018-10-11"),
}
"""Kind -> (what must be masked, what must be left). All numbers are made up; checksums are right and wrong."""


def masking_controls(kinds: Sequence[str]) -> dict[str, Any]:
    """The body of a measurement: of all controls, how many came out as they must.

    Raises:
        DataError: masking has no effect on a planted text, or takes away a near miss.
    """
    for kind in kinds:
        planted, near_miss = PLANTED[kind]
        masked, spans = mask_personal_data(planted, kinds)
        if kind not in {span.kind for span in spans} or masked == planted:
            raise DataError(
                f"masking {kind} has no effect: the planted {planted!r} came out as {masked!r}. "
                "Nothing was written; this installation of guiju or of its libraries is damaged, so install it anew"
            )
        if mask_personal_data(near_miss, [kind])[1]:
            raise DataError(
                f"masking {kind} takes away {near_miss!r}, which only looks like it. "
                "Nothing was written; this installation of guiju or of its libraries is damaged, so install it anew"
            )
    count = 2 * len(kinds)
    return {
        "measure": "masking_controls",
        "what": "planted personal data that was masked, and near misses that were left",
        "count": count,
        "n": count,
        "value": 1.0 if count else None,
        "unit": "share",
        "sampled": False,
        "details": {"kinds": list(kinds), "planted": len(kinds), "near_misses": len(kinds)},
    }
