"""Models on this disk: a run folder, a Hugging Face folder, OpenAI's GPT-2 folder, or a llama2.c checkpoint."""

from __future__ import annotations

from pathlib import Path

from guiju.errors import ModelError
from guiju.model import is_openai_gpt2, load_llama2c, load_model, load_openai_gpt2, openai_gpt2_files
from guiju.providers.local import LocalModel
from guiju.providers.tokenizers import own_tokenizer, read_tokenizer, require_plain, tokenizer_files
from guiju.tokens import Llama2cTokenizer

_FILES = ("config.json", "generation_config.json", "*.safetensors", "*.index.json", "pytorch_model*.bin")


def load_local(reference: str, path: Path, tokenizer: Path | None, *, pickles: bool) -> LocalModel:
    """The model at a path; arguments and errors are those of guiju.providers.load."""
    if path.is_dir():
        return _load_folder(reference, path, tokenizer, pickles)
    if path.is_file():
        return _load_llama2c(reference, path, tokenizer)
    if path.exists() or path.is_symlink():
        raise ModelError(f"{reference} is neither a folder nor a regular file, so no model is read from it")
    raise ModelError(
        f"there is no model at {reference}. Give a run folder, a Hugging Face folder or a llama2.c checkpoint, or "
        f"hf:{reference} for one of the Hugging Face hub; nothing is downloaded that is not named so"
    )


def _load_folder(reference: str, path: Path, tokenizer: Path | None, pickles: bool) -> LocalModel:
    if is_openai_gpt2(path):
        require_plain(path, ".")
        gpt2 = load_openai_gpt2(path)
        own = own_tokenizer([path], tokenizer, gpt2.config.vocab_size)
        return LocalModel(reference, gpt2, own[0], (*openai_gpt2_files(path), *own[1]))
    folder = path if (path / "config.json").is_file() else path / "model"
    if not (folder / "config.json").is_file():
        run = (path / "recipe.yaml").exists() or (path / "ledger").exists()
        raise ModelError(
            f"{path} is a run that has no model yet: it was not trained to the end. `guiju run` with its recipe goes on"
            if run
            else f"{path} holds neither config.json (a Hugging Face folder) nor model/config.json (a run)"
        )
    require_plain(path, "." if folder == path else "model")
    model = load_model(folder, pickles=pickles)
    own = own_tokenizer([folder, path / "tokenizer"], tokenizer, model.config.vocab_size)
    files = [place for pattern in _FILES for place in sorted(folder.glob(pattern))]
    return LocalModel(reference, model, own[0], (*files, *own[1]))


def _load_llama2c(reference: str, path: Path, tokenizer: Path | None) -> LocalModel:
    model = load_llama2c(path)
    place = _tokenizer_beside(path, model.config.vocab_size) if tokenizer is None else tokenizer
    own = read_tokenizer(place, model.config.vocab_size)
    return LocalModel(reference, model, own, (path, *tokenizer_files(place)))


def _tokenizer_beside(path: Path, vocab_size: int) -> Path:
    """The one tok*.bin beside a checkpoint that has as many pieces as the model has ids."""
    found = sorted(other for other in path.parent.glob("tok*.bin") if other != path and other.is_file())
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
