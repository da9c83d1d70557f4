"""Models of the Hugging Face hub by name: out of its cache on this disk, and only else out of the network.

The cache is where its own library has it (HF_HOME, HF_HUB_CACHE), and HF_HUB_OFFLINE forbids the network. What is
fetched are the root's configurations, tokenizer files and safetensors; no code, and a pickle only where it was allowed.
Each file is recorded with its SHA-256, which must be the one that the hub states where it states one.
"""

from __future__ import annotations

import fnmatch
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guiju.errors import GuijuError, ModelError
from guiju.model import weight_files
from guiju.providers.tokenizers import holds_tokenizer
from guiju.storage import require_free_space, sha256_file
from guiju.tokens import TOKENIZER_FILES

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

_NAME = re.compile(r"(?P<repository>[\w.-]{1,96}(/[\w.-]{1,96})?)(@(?P<revision>[\w./-]{1,200}))?", re.ASCII)
_CONFIGURATIONS = ("config.json", "generation_config.json")
_TOKENIZER_FILES = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    *TOKENIZER_FILES,
)


@dataclass(frozen=True)
class Download:
    """A file that came over the network."""

    repository: str
    revision: str
    """The commit."""
    file: str
    size_bytes: int
    sha256: str
    endpoint: str
    """The hub that it is from."""


@dataclass(frozen=True)
class Found:
    """Where a model of the hub lies on this disk."""

    folder: Path
    downloads: tuple[Download, ...]


def find_in_hub(reference: str, *, pickles: bool = False, tokenizer: bool = True) -> Found:
    """The folder of a model such as `hf:gpt2`, `hf:ORG/NAME` or `hf:ORG/NAME@REVISION`.

    Args:
        pickles: whether PyTorch's .bin files do, where there is no safetensors file.
        tokenizer: whether a tokenizer must be there too.
    Raises:
        ModelError: the name is none, the model is not in the cache and cannot or may not be fetched, or what came is
            not what the hub states.
        StorageError: there is no room for it.
    """
    match = _NAME.fullmatch(reference.removeprefix("hf:"))
    if match is None or ".." in reference or "--" in reference:
        raise ModelError(
            f"{reference!r} is no name of the hub: it is hf:NAME or hf:ORGANISATION/NAME, and @REVISION behind it for "
            f"another one than main"
        )
    import huggingface_hub
    import huggingface_hub.constants

    repository, revision = match["repository"], match["revision"] or "main"
    folder = _in_cache(repository, revision)
    lacks = "it is not there" if folder is None else _lacks(folder, pickles, tokenizer)
    if folder is not None and not lacks:
        return Found(folder, ())
    cache = Path(huggingface_hub.constants.HF_HUB_CACHE)
    if huggingface_hub.constants.is_offline_mode():
        raise ModelError(
            f"{reference} cannot be taken from the Hugging Face cache {cache}: {lacks}; and HF_HUB_OFFLINE is set, so "
            f"nothing is fetched. {_way_out(repository, cache)}"
        )
    try:
        return _fetch(repository, revision, pickles, tokenizer, cache)
    except GuijuError:
        raise
    except Exception as problem:  # the library lets through what its network library and the system raise
        raise _failed(reference, repository, cache, problem) from None


def _in_cache(repository: str, revision: str) -> Path | None:
    """The snapshot of a revision, where the cache has one."""
    import huggingface_hub
    import huggingface_hub.constants

    found = huggingface_hub.try_to_load_from_cache(repository, "config.json", revision=revision)
    if not isinstance(found, str):
        return None
    return _inside(Path(found).parent, repository)


def _inside(folder: Path, repository: str) -> Path:
    """The same folder, once it is known to be a snapshot of this repository: a file in `refs` can say anything."""
    import huggingface_hub
    import huggingface_hub.constants

    home = Path(huggingface_hub.constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "snapshots"
    if folder.resolve().parent != home.resolve():
        raise ModelError(f"the cache names {folder} for {repository}, which is not below {home}. Remove {home.parent}")
    return folder


def _lacks(folder: Path, pickles: bool, tokenizer: bool) -> str:
    """What a folder has too little of to be a model; nothing where it is whole."""
    if not (folder / "config.json").is_file():
        return "it has no config.json"
    names = weight_files(folder, pickles=pickles)
    if not names and weight_files(folder, pickles=True):
        return "its weights are a pickle, which is read only where it is allowed (--allow-pickle)"
    missing = [name for name in names or ["model.safetensors"] if not (folder / name).is_file()]
    if missing:
        return f"{missing[0]} is missing"
    return "it has no tokenizer" if tokenizer and not holds_tokenizer(folder) else ""


def _fetch(repository: str, revision: str, pickles: bool, tokenizer: bool, cache: Path) -> Found:
    import huggingface_hub
    import huggingface_hub.constants

    facts = huggingface_hub.HfApi().model_info(repository, revision=revision, files_metadata=True)
    offered = {entry.rfilename: entry for entry in facts.siblings or ()}
    wanted = _wanted(set(offered), pickles, repository)
    commit = str(facts.sha)
    had = _in_cache(repository, commit)
    before = set() if had is None else {name for name in wanted if (had / name).is_file()}
    size = sum(offered[name].size or 0 for name in wanted if name not in before)
    require_free_space(cache, size, f"{repository} of the Hugging Face hub")
    place = huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=sorted(wanted))
    folder = _inside(Path(place), repository)
    if folder.name != commit:
        raise ModelError(f"{repository} was changed on the hub while it was fetched. Run the same command again")
    lacks = _lacks(folder, pickles, tokenizer)
    if lacks:
        raise ModelError(f"{repository} of the hub is no model that can be read here: {lacks}")
    new = sorted(name for name in wanted if name not in before)
    return Found(folder, tuple(_record(repository, folder, name, offered[name]) for name in new))


def _wanted(offered: set[str], pickles: bool, repository: str) -> set[str]:
    """The files to fetch of those that a repository offers."""
    wanted = offered & {*_CONFIGURATIONS, *_TOKENIZER_FILES}
    if "model.safetensors" in offered:
        return wanted | {"model.safetensors"}
    if "model.safetensors.index.json" in offered:
        shards = fnmatch.filter(offered, "model-?????-of-?????.safetensors")
        return wanted | {"model.safetensors.index.json", *shards}
    held = {name for name in offered if re.fullmatch(r"pytorch_model(-\d{5}-of-\d{5})?\.bin(\.index\.json)?", name)}
    if held and not pickles:
        raise ModelError(
            f"{repository} of the hub holds its weights as pickles alone ({', '.join(sorted(held)[:3])}), which can "
            f"run code when they are opened, so they are not fetched. Where you know who made them, allow it "
            f"(--allow-pickle; pickles=True in Python)"
        )
    return wanted | ({"pytorch_model.bin"} & held or held)


def _record(repository: str, folder: Path, name: str, entry: Any) -> Download:
    """What came, and whether it is what the hub says it is."""
    import huggingface_hub
    import huggingface_hub.constants

    digest = sha256_file(folder / name)
    stated = getattr(entry.lfs, "sha256", None)
    if stated is not None and stated != digest:
        raise ModelError(
            f"{folder / name} has the SHA-256 {digest}, but the hub states {stated}: it is damaged, or not the "
            f"one that was published. Remove {folder.parent.parent}, and fetch it again"
        )
    endpoint = huggingface_hub.constants.ENDPOINT
    return Download(repository, folder.name, name, (folder / name).stat().st_size, digest, endpoint)


def _failed(reference: str, repository: str, cache: Path, problem: Exception) -> ModelError:
    kinds = {
        "GatedRepoError": "its owner asks for an agreement first (log in with `hf auth login` once it is given)",
        "RepositoryNotFoundError": "the hub knows no such model, or shows it to its owner alone",
        "RevisionNotFoundError": "the hub has no such revision of it",
    }
    said = " ".join(str(problem).split())[:300]
    why = kinds.get(type(problem).__name__, f"the hub cannot be reached ({type(problem).__name__}: {said})")
    return ModelError(f"{reference} is not in the Hugging Face cache {cache}, and {why}. {_way_out(repository, cache)}")


def _way_out(repository: str, cache: Path) -> str:
    folder = f"models--{repository.replace('/', '--')}"
    return (
        f"To bring it: where there is a network, run `hf download {repository}`, and copy {folder} out of the cache "
        f"there into {cache} here; or copy any folder with its config.json, model.safetensors and tokenizer.json here, "
        f"and give the folder's path in place of hf:{repository}"
    )
