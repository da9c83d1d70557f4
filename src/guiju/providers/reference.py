"""A model reference becomes a model: a run folder, a Hugging Face folder, or a llama2.c checkpoint."""

from __future__ import annotations

from pathlib import Path

from guiju.errors import ModelError
from guiju.model import load_llama2c, load_model
from guiju.providers.language_model import LanguageModel
from guiju.tokens import Llama2cTokenizer, Tokenizer

_LATER = ("hf:", "openai:", "tf:")


def load(reference: str | Path, tokenizer: str | Path | None = None, *, pickles: bool = False) -> LanguageModel:
    """The model behind a reference.

    Args:
        reference: a run folder (its model/ is read), a Hugging Face folder of the GPT-2 or Llama family, or a llama2.c
            checkpoint with its tokenizer (tok*.bin, with as many pieces as the model has ids) beside it.
        tokenizer: a tokenizer.json, a folder that holds one, or a llama2.c tokenizer; by default the model's own.
    Raises:
        ModelError: there is none, it is damaged or of another kind, or no tokenizer fits it.
    """
    reference = str(reference)
    if reference.startswith(_LATER):
        kind = reference.partition(":")[0]
        raise ModelError(f"{reference}: {kind}: references are not in this version. Give the path of a folder or file")
    path, given = Path(reference), None if tokenizer is None else Path(tokenizer)
    if path.is_dir():
        return _load_folder(reference, path, given)
    if path.is_file():
        return _load_llama2c(reference, path, given)
    raise ModelError(
        f"there is no model at {reference}. Give a run folder, a Hugging Face folder or a llama2.c checkpoint; "
        f"nothing is downloaded"
    )


def _load_folder(reference: str, path: Path, tokenizer: Path | None) -> LanguageModel:
    folder = path if (path / "config.json").is_file() else path / "model"
    if not (folder / "config.json").is_file():
        run = (path / "recipe.yaml").exists() or (path / "ledger").exists()
        raise ModelError(
            f"{path} is a run that has no model yet: it was not trained to the end. `guiju run` with its recipe goes on"
            if run
            else f"{path} holds neither config.json (a Hugging Face folder) nor model/config.json (a run)"
        )
    model = load_model(folder)
    places = [folder, path / "tokenizer"] if tokenizer is None else [tokenizer]
    place = next((place for place in places if _holds_tokenizer(place)), places[0])
    if tokenizer is None and not _holds_tokenizer(place):
        raise ModelError(
            f"{folder} has no tokenizer.json, so its ids mean nothing. Pass --tokenizer with the model's own"
        )
    own = _read_tokenizer(place, model.config.vocab_size)
    files = [*folder.glob("*.safetensors"), *folder.glob("*.index.json"), folder / "config.json"]
    return LanguageModel(reference, model, own, (*files, *_tokenizer_files(place)))


def _load_llama2c(reference: str, path: Path, tokenizer: Path | None) -> LanguageModel:
    model = load_llama2c(path)
    place = _tokenizer_beside(path, model.config.vocab_size) if tokenizer is None else tokenizer
    own = _read_tokenizer(place, model.config.vocab_size)
    return LanguageModel(reference, model, own, (path, *_tokenizer_files(place)))


def _read_tokenizer(place: Path, vocab_size: int) -> Tokenizer:
    if not place.exists():
        raise ModelError(f"there is no tokenizer at {place}")
    if place.is_file() and place.suffix != ".json":
        return Llama2cTokenizer.read(place, vocab_size)
    tokenizer = Tokenizer.load(place)
    if tokenizer.vocab_size > vocab_size:
        raise ModelError(
            f"{place} has {tokenizer.vocab_size} ids, but the model knows {vocab_size}: they do not belong together. "
            f"Pass --tokenizer with the model's own"
        )
    return tokenizer


def _tokenizer_beside(path: Path, vocab_size: int) -> Path:
    """The one tok*.bin beside a checkpoint that has as many pieces as the model has ids."""
    found = sorted(other for other in path.parent.glob("tok*.bin") if other != path)
    fitting = [other for other in found if _fits(other, vocab_size)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(other.name for other in fitting)
        raise ModelError(
            f"beside {path} stand several tokenizers of {vocab_size} pieces: {names}. Choose by --tokenizer"
        )
    seen = f" ({', '.join(other.name for other in found)} does not fit)" if found else ""
    raise ModelError(
        f"beside {path} stands no tok*.bin of {vocab_size} pieces{seen}, so its ids mean nothing. "
        f"Pass --tokenizer with the model's own"
    )


def _fits(path: Path, vocab_size: int) -> bool:
    try:
        Llama2cTokenizer.read(path, vocab_size)
    except ModelError:
        return False
    return True


def _holds_tokenizer(place: Path) -> bool:
    return place.is_file() or any(
        all((place / name).is_file() for name in names) for names in (("tokenizer.json",), ("vocab.json", "merges.txt"))
    )


def _tokenizer_files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    return [place / name for name in ("tokenizer.json", "vocab.json", "merges.txt") if (place / name).is_file()]
