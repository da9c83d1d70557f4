"""What a published model's files say about generating: ids that must stand first or last, and ids that never come.

generation_config.json decides, and config.json where it is missing, as in transformers. How a text is drawn (such as
num_beams or temperature) is the caller's choice, and is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guiju.errors import ModelError
from guiju.model.config import ModelConfig
from guiju.model.weights import read_json

_NAMES = {
    "start_id": "decoder_start_token_id",
    "forced_first_id": "forced_bos_token_id",
    "forced_last_id": "forced_eos_token_id",
}
_NOT_FOLLOWED = ("begin_suppress_tokens", "sequence_bias", "constraints", "force_words_ids")


def generation_fields(folder: Path, config_json: Mapping[str, Any], config: ModelConfig) -> dict[str, Any]:
    """The fields of ModelConfig that a folder's files state.

    Raises:
        ModelError: one is no id of the model's.
    """
    if config.kind == "encoder":
        return {}
    file = folder / "generation_config.json"
    given = read_json(file) if file.is_file() else config_json
    fields: dict[str, Any] = {}
    for ours, theirs in _NAMES.items():
        found = _one_id(given.get(theirs), theirs, folder, config.vocab_size)
        if found is not None and (ours != "start_id" or config.kind == "encoder-decoder"):
            fields[ours] = found
    never = _never(given, folder)
    fields["never_ids"] = tuple(sorted({token for token in never if 0 <= token < config.vocab_size}))
    return fields


def generation_names(config: ModelConfig) -> dict[str, object]:
    """The same as generation_config.json has it; decoder_start_token_id stands in config.json too."""
    named: dict[str, object] = {
        theirs: getattr(config, ours) for ours, theirs in _NAMES.items() if getattr(config, ours) is not None
    }
    if config.never_ids:
        named["bad_words_ids"] = [[token] for token in config.never_ids]
    return named


def _one_id(value: object, name: str, folder: Path, vocab_size: int) -> int | None:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < vocab_size:
        raise ModelError(f"{folder}: {name} is {value!r}; it must be one id from 0 to {vocab_size - 1}")
    return value


def _never(given: Mapping[str, Any], folder: Path) -> list[int]:
    """The ids that may come nowhere."""
    for name in _NOT_FOLLOWED:
        if given.get(name):
            raise _refusal(folder, name, given[name])
    banned, suppressed = given.get("bad_words_ids") or [], given.get("suppress_tokens") or []
    if not isinstance(banned, list) or not all(isinstance(word, list) and len(word) == 1 for word in banned):
        raise _refusal(folder, "bad_words_ids", banned, "which bans more than single ids")
    if not isinstance(suppressed, list):
        raise _refusal(folder, "suppress_tokens", suppressed)
    never = [*(word[0] for word in banned), *suppressed]
    for token in never:
        if not isinstance(token, int) or isinstance(token, bool):
            raise _refusal(folder, "bad_words_ids or suppress_tokens", token, "which is no id")
    return never


def _refusal(folder: Path, name: str, value: object, why: str = "a rule that guiju does not follow") -> ModelError:
    return ModelError(
        f"{folder}: {name} is {str(value)[:80]}, {why}. Its texts would differ from those that the publisher wants; "
        f"remove the entry from generation_config.json to go on without it"
    )
