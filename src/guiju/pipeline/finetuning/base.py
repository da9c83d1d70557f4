"""What a fine-tuning begins with: the base's weights and tokenizer, or a new model's; and the head that it needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from guiju.errors import ConfigError, ModelError
from guiju.model import (
    AdapterBase,
    AnyModel,
    Encoder,
    EncoderDecoder,
    ModelConfig,
    ModelSettings,
    Transformer,
    add_lora,
    build_model,
    quantize,
    weights_digest,
    with_head,
)
from guiju.pipeline.finetuning.data import empty_folder, read_written
from guiju.pipeline.finetuning.recipe import FinetuneRecipe
from guiju.pipeline.orchestration import StageContext, StageResult
from guiju.providers import LocalModel, load
from guiju.storage import write_json
from guiju.tasks import Completion, Conversation, Labelled, Pair, Preference, Question, Record
from guiju.tokens import Marks, Tokenizer, TokenizerSettings, choose_template, train_tokenizer

_FILES = ("config.json", "generation_config.json", "*.safetensors", "*.index.json", "tokenizer*", "vocab*", "*.jinja")
_KINDS = {
    "answers": ("decoder",),
    "next-token": ("decoder",),
    "preferences": ("decoder",),
    "classes": ("encoder", "decoder"),
    "extractive": ("encoder",),
    "pairs": ("encoder-decoder",),
}
_HEADS = {"classes": "classes", "extractive": "span"}
_SHAPE = {"pairs": "transformer", "classes": "bert", "extractive": "bert"}


@dataclass(frozen=True)
class Base:
    """What is known of it before it learns."""

    reference: str
    """Empty for a new model."""
    digest: str
    """Of its files; empty for a new model."""
    kind: str
    context: int
    parameters: int


def base_files(recipe: FinetuneRecipe) -> dict[str, Path]:
    """The base's files, by name. Those of a folder are named without loading what is in it."""
    reference = recipe.base_reference
    if reference is None:
        return {}
    place = Path(reference)
    if not place.is_dir():
        return {path.name: path for path in load_base(recipe).files}
    folder = place if (place / "config.json").is_file() else place / "model"
    found = sorted({path for pattern in _FILES for path in folder.glob(pattern) if path.is_file()})
    return {f"base/{path.name}": path for path in found}


def load_base(recipe: FinetuneRecipe) -> LocalModel:
    """The recipe's base.

    Raises:
        ModelError: there is none, or its weights are not at hand here.
    """
    assert recipe.base_reference is not None, "a new model has no base"
    found = load(recipe.base_reference)
    if not isinstance(found, LocalModel):
        raise ModelError(
            f"base is {recipe.base}, whose weights are not at hand here, so they cannot learn; give a run, a Hugging "
            "Face folder or hf:NAME"
        )
    return found


def make_base(context: StageContext[FinetuneRecipe]) -> StageResult:
    """The tokenizer, with the chat template that conversations are written by; and what the base is."""
    recipe = context.recipe
    empty_folder(context.path("tokenizer"))
    if recipe.base is None:
        settings = recipe.tokenizer or TokenizerSettings()
        tokenizer = train_tokenizer(
            _texts(context.path("data/train.jsonl"), recipe), _with_needed(settings, recipe), context.path("tokenizer")
        )
        config = new_config(recipe, tokenizer)
        base = Base("", "", config.kind, config.context, _count(build_on_meta(config)))
    else:
        loaded = load_base(recipe)
        tokenizer, config = loaded.tokenizer, loaded.model.config
        base = Base(recipe.base, loaded.digest, config.kind, config.context, _count(loaded.model))
    _require_kind(recipe, base)
    if recipe.chats:
        tokenizer = tokenizer.with_chat_template(choose_template(recipe.template, tokenizer, recipe.root).text)
    tokenizer.save(context.path("tokenizer"))
    write_json(context.path("base.json"), base.__dict__)
    what = f"{recipe.base}, {base.digest[:12]}" if recipe.base else "a new model"
    return StageResult(
        {**base.__dict__, "tokenizer": tokenizer.digest},
        f"{what}: {base.parameters:,} parameters ({base.kind}), {base.context} tokens of context",
    )


def read_base(folder: Path) -> Base:
    """What `make_base` left in a run."""
    return Base(**json.loads((folder / "base.json").read_text(encoding="utf-8")))


def starting_model(
    recipe: FinetuneRecipe, tokenizer: Tokenizer, labels: tuple[str, ...]
) -> tuple[AnyModel, AdapterBase | None]:
    """The model before it learns, the same each time: with its head, and with adapters where the recipe asks for them.

    Returns:
        The model, and what an adapter is saved with; None without one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        if recipe.base is None:
            return _headed(build_model(new_config(recipe, tokenizer)), recipe, labels), None
        model = _headed(load_base(recipe).model, recipe, labels)
        if recipe.lora is None:
            return model, None
        adapter = AdapterBase(recipe.base, weights_digest(model))
        if recipe.base_precision != "float32":
            model = quantize(model, recipe.base_precision)
        add_lora(model, recipe.lora)
        return model, adapter


def new_config(recipe: FinetuneRecipe, tokenizer: Tokenizer) -> ModelConfig:
    """The shape of a model that has no base."""
    settings = recipe.model or ModelSettings(shape=_SHAPE.get(recipe.objective, "llama"))  # type: ignore[arg-type]
    config = settings.config(tokenizer.vocab_size)
    if config.kind == "decoder":
        return config
    marks = Marks.of(tokenizer)
    if config.kind == "encoder":
        return replace(config, pad_id=marks.pad)
    return replace(config, pad_id=marks.pad, start_id=marks.start)


def build_on_meta(config: ModelConfig) -> AnyModel:
    """A model's shapes, without the memory."""
    with torch.device("meta"):
        return build_model(config)


def _headed(model: AnyModel, recipe: FinetuneRecipe, labels: tuple[str, ...]) -> AnyModel:
    head = _HEADS.get(recipe.objective, "vocabulary")
    config = model.config
    if config.head == head and (head != "classes" or config.labels == labels):
        return model
    if isinstance(model, EncoderDecoder) or head == "vocabulary":
        raise ConfigError(
            f"base is {recipe.base}, whose head is {config.head}, but the objective {recipe.objective} learns with the "
            f"head {head}; take the model that it was made from"
        )
    made: AnyModel
    if isinstance(model, Encoder):
        made = with_head(model, head, labels)  # type: ignore[arg-type]  # one of the names above
    else:
        assert isinstance(model, Transformer)
        made = with_head(model, head, labels)  # type: ignore[arg-type]
    return made


def _require_kind(recipe: FinetuneRecipe, base: Base) -> None:
    able = _KINDS[recipe.objective]
    if base.kind not in able:
        others = [name for name, kinds in _KINDS.items() if base.kind in kinds]
        raise ConfigError(
            f"{f'base is {recipe.base}, which' if recipe.base else 'the new model'} is of the kind {base.kind}, and "
            f"cannot learn {recipe.objective}, for which it takes {' or '.join(able)}. "
            f"It can learn {', '.join(others)}"
        )


def _texts(path: Path, recipe: FinetuneRecipe) -> Iterator[str]:
    """All that the rows say, to learn a vocabulary from."""
    for record in read_written(path, recipe.record):
        yield from _said(record)


def _said(record: Record) -> Iterator[str]:
    match record:
        case Conversation():
            yield from (message.content for message in record.messages)
        case Completion():
            yield from (record.prompt, record.completion)
        case Labelled():
            yield record.text
        case Pair():
            yield from (record.source, *record.targets)
        case Question():
            yield from (record.question, record.context)
        case Preference():
            yield from (record.prompt, record.chosen, record.rejected)


def _with_needed(settings: TokenizerSettings, recipe: FinetuneRecipe) -> TokenizerSettings:
    """With a token to fill rows up, which everything but plain decoders needs."""
    known: tuple[str, ...] = settings.special_tokens
    if recipe.objective == "pairs" and not {"<pad>", "[PAD]"} & set(known):
        return replace(settings, special_tokens=(*known, "<pad>"))
    if recipe.objective in ("classes", "extractive") and recipe.tokenizer is None:
        return TokenizerSettings(kind="wordpiece")
    return settings


def _count(model: Any) -> int:
    return sum(int(parameter.numel()) for parameter in model.parameters())
