"""OpenVINO, brought in with its telemetry off.

Its package reports each import and each conversion to Google Analytics unless a file in the user's home says otherwise,
and keeps an identity there. All of that goes through the module `openvino_telemetry`, without which OpenVINO and nncf
work alike: they catch its absence and put an empty object in its place. So here it is absent.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from guiju.errors import ModelError

TELEMETRY = "openvino_telemetry"


def silence_telemetry() -> None:
    """From now on nothing that this process does is reported by OpenVINO's telemetry. Where another part of the program
    brought it in already, what it sends with is made to do nothing."""
    held = sys.modules.get(TELEMETRY)
    if held is not None:
        held.utils.sender.TelemetrySender.send = lambda *message: None
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # an import fails as if it were not installed


@cache
def load_openvino() -> Any:
    """The `openvino` module.

    Raises:
        ModelError: the extra is not installed.
    """
    silence_telemetry()
    try:
        import openvino
        from openvino.op import _PagedAttentionExtension  # noqa: F401
    except ImportError as problem:
        raise ModelError(
            f"the fast runner needs OpenVINO, which cannot be imported ({problem}): pip install 'guiju[cpu]', or take "
            f"runner torch"
        ) from None
    return openvino


@cache
def openvino_core() -> Any:
    """The one `openvino.Core` of this process, which stays until its end.

    Each Core gives the thread that makes it another stack for signals and puts the one before back when it goes. Of two
    that go in the order in which they came, the second puts back what the first has unmapped, and the next signal
    (Ctrl-C, SIGTERM) ends the process with a segmentation fault (seen with OpenVINO 2026.4.1).

    Raises:
        ModelError: the extra is not installed.
    """
    return load_openvino().Core()
