from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import pytest
import torch

from guiju.errors import ModelError, StorageError
from guiju.model import Transformer, gpt2_config, save_model
from guiju.providers import load
from guiju.providers.hub import find_in_hub
from guiju.tokens import TokenizerSettings, train_tokenizer

_spec = importlib.util.spec_from_file_location("hub_server", Path(__file__).with_name("hub_server.py"))
assert _spec is not None and _spec.loader is not None
hub_server = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hub_server)

COMMIT = hub_server.COMMIT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model's folder as a repository would hold it, with things in it that nobody needs."""
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("repository")
    tokenizer = train_tokenizer(["春风又绿江南岸 once upon a time " * 30], TokenizerSettings(vocab_size=270))
    model = Transformer(gpt2_config(vocab_size=270, context=32, width=16, layers=1, heads=2))
    save_model(model.eval(), place, tokenizer)
    (place / "modeling_evil.py").write_text("raise SystemExit('ran')")
    (place / "README.md").write_text("# a model")
    (place / "training_args.bin").write_bytes(b"cos\nsystem\n")
    (place / "onnx").mkdir()
    (place / "onnx" / "config.json").write_text("{}")
    return place


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub's library, in this process too."""
    place = tmp_path / "home" / "hub"
    place.mkdir(parents=True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(place))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return place


def _put(cache: Path, folder: Path, repository: str = "models--gpt2", commit: str = COMMIT) -> Path:
    """The layout of the cache: refs say which commit, snapshots hold links, blobs hold the files."""
    place = cache / repository
    snapshot = place / "snapshots" / commit
    for part in (place / "refs", place / "blobs", snapshot):
        part.mkdir(parents=True, exist_ok=True)
    (place / "refs" / "main").write_text(commit)
    for path in folder.iterdir():
        if path.is_file() and path.suffix in (".json", ".safetensors"):
            name = hashlib.sha256(path.read_bytes()).hexdigest()
            shutil.copy(path, place / "blobs" / name)
            (snapshot / path.name).symlink_to(Path("../../blobs") / name)
    return snapshot


def test_a_model_in_the_cache_is_loaded_by_name_without_the_network(cache, folder):
    snapshot = _put(cache, folder)
    by_name, by_path = load("hf:gpt2"), load(folder)
    assert by_name.downloads == ()
    assert {path.parent for path in by_name.files} == {snapshot}
    assert by_name.digest == by_path.digest
    assert by_name.score(["once upon a time"]) == by_path.score(["once upon a time"])
    assert load(f"hf:gpt2@{COMMIT}").digest == by_path.digest


def test_an_organisation_and_a_branch_are_found(cache, folder):
    snapshot = _put(cache, folder, "models--some-org--tiny.model")
    (snapshot.parents[1] / "refs" / "pr").mkdir()
    (snapshot.parents[1] / "refs" / "pr" / "7").write_text(COMMIT)
    assert find_in_hub("hf:some-org/tiny.model").folder == snapshot
    assert find_in_hub("hf:some-org/tiny.model@pr/7").folder == snapshot


def test_without_cache_and_network_the_message_says_how_to_bring_the_folder(cache):
    with pytest.raises(
        ModelError, match=r"HF_HUB_OFFLINE is set.*`hf download gpt2`, and copy models--gpt2 out"
    ) as told:
        load("hf:gpt2")
    assert str(cache) in str(told.value) and "give the folder's path in place of hf:gpt2" in str(told.value)


@pytest.mark.parametrize(("missing", "message"), [
    ("model.safetensors", "model.safetensors is missing"),
    ("tokenizer.json", "it has no tokenizer"),
])  # fmt: skip
def test_a_snapshot_that_is_not_whole_is_not_taken_for_a_model(missing, message, cache, folder):
    (_put(cache, folder) / missing).unlink()
    with pytest.raises(ModelError, match=message):
        load("hf:gpt2")


def test_a_tokenizer_that_is_given_need_not_be_in_the_cache(cache, folder):
    (_put(cache, folder) / "tokenizer.json").unlink()
    assert load("hf:gpt2", folder / "tokenizer.json").tokenizer.vocab_size == 270


@pytest.mark.parametrize("name", [
    "hf:", "hf:..", "hf:../../etc", "hf:a/b/c", "hf:/etc/passwd", "hf:a@../../b", "hf:a b", "hf:a@", "hf:a\n", "hf:ａ",
    "hf:a--b", "hf:a/..", "hf:a?b", "hf:" + "a" * 97,
])  # fmt: skip
def test_a_name_that_is_none_is_refused_before_anything_is_looked_up(name, cache):
    with pytest.raises(ModelError, match="is no name of the hub"):
        load(name)


def test_a_ref_that_leads_out_of_the_cache_is_refused(cache, folder, tmp_path):
    snapshot = _put(cache, folder)
    shutil.copytree(folder, tmp_path / "elsewhere")
    out = os.path.relpath(tmp_path / "elsewhere", snapshot.parent)
    (snapshot.parents[1] / "refs" / "main").write_text(out)
    with pytest.raises(ModelError, match=r"it is not there|the cache names .*elsewhere for gpt2"):
        load("hf:gpt2")


def test_a_link_out_of_the_cache_is_refused(cache, folder, tmp_path):
    snapshot = _put(cache, folder)
    (snapshot / "tokenizer.json").unlink()
    (snapshot / "tokenizer.json").symlink_to(folder / "tokenizer.json")
    with pytest.raises(ModelError, match=r"tokenizer\.json is a link out of its folder"):
        load("hf:gpt2")


def _guiju(hub, cache: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a user runs it, with the client's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    settings = {"HF_ENDPOINT": hub.address, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "guiju", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**kept, **settings, **environment},
    )


@pytest.fixture
def online(cache, monkeypatch):
    """This process may ask a hub on this machine."""

    def ask(hub):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.address)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    return ask


def test_a_model_is_fetched_by_name_recorded_and_then_found_in_the_cache(cache, folder, online):
    with hub_server.serve("org/tiny", folder) as hub:
        first = _guiju(hub, cache, "score", "--model", "hf:org/tiny", "--text", "once upon", "--json")
        assert first.returncode == 0, first.stderr
        assert json.loads(first.stdout)["tokens"] == load(folder).score(["once upon"])[0].tokens
        digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        assert f"fetched model.safetensors of org/tiny at {COMMIT[:12]} from {hub.address}" in first.stderr
        assert digest in first.stderr
        fetched = {path.split("/")[-1] for kind, path in hub.asked if kind == "GET" and "/resolve/" in path}
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= fetched
        assert not [name for name in fetched if name.endswith((".py", ".bin", ".md"))]
        assert not [path for _, path in hub.asked if "onnx" in path]
        before = len(hub.asked)
        online(hub)
        again = find_in_hub("hf:org/tiny")
        assert (again.downloads, len(hub.asked)) == ((), before)
    assert load("hf:org/tiny").digest == load(folder).digest


def test_hf_home_is_followed(cache, folder):
    _put(cache, folder)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    settings = {"HF_HOME": str(cache.parent), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "from guiju.providers.hub import find_in_hub as f; print(f('hf:gpt2').folder)"],
        capture_output=True,
        text=True,
        check=True,
        env={**kept, **settings},
    )
    assert done.stdout == f"{cache / 'models--gpt2' / 'snapshots' / COMMIT}\n"


def test_offline_means_that_nothing_is_asked(cache, folder):
    with hub_server.serve("org/tiny", folder) as hub:
        answer = _guiju(hub, cache, "generate", "--model", "hf:org/tiny", HF_HUB_OFFLINE="1")
        assert (answer.returncode, hub.asked) == (2, [])
        assert "HF_HUB_OFFLINE is set, so nothing is fetched" in answer.stderr
        assert "Traceback" not in answer.stderr


def test_a_file_that_is_not_what_the_hub_states_is_refused(cache, folder, online):
    with hub_server.serve("org/tiny", folder) as hub:
        online(hub)
        hub.stated["model.safetensors"] = "0" * 64
        with pytest.raises(ModelError, match=r"has the SHA-256 .*, but the hub states 0000"):
            find_in_hub("hf:org/tiny")


def test_weights_that_are_pickles_alone_are_fetched_only_where_that_is_allowed(cache, folder, online, tmp_path):
    other = tmp_path / "pickled"
    shutil.copytree(folder, other)
    (other / "model.safetensors").unlink()
    torch.save({"transformer.wte.weight": torch.ones(2)}, other / "pytorch_model.bin")
    with hub_server.serve("org/old", other) as hub:
        online(hub)
        with pytest.raises(ModelError, match=r"weights as pickles alone \(pytorch_model\.bin\).*--allow-pickle"):
            find_in_hub("hf:org/old")
        assert not [path for _, path in hub.asked if "/resolve/" in path]
        found = find_in_hub("hf:org/old", pickles=True)
        assert "pytorch_model.bin" in [one.file for one in found.downloads]
        assert not (found.folder / "training_args.bin").exists()
        assert find_in_hub("hf:org/old", pickles=True) == type(found)(found.folder, ())


def test_what_the_hub_refuses_is_said_in_its_own_kind(cache, folder, online):
    with hub_server.serve("org/tiny", folder) as hub:
        online(hub)
        with pytest.raises(ModelError, match=r"the hub knows no such model.*hf download org/other"):
            find_in_hub("hf:org/other")
        with pytest.raises(ModelError, match="the hub has no such revision"):
            find_in_hub("hf:org/tiny@v9")
        hub.gated = True
        with pytest.raises(ModelError, match="its owner asks for an agreement first"):
            find_in_hub("hf:org/tiny")
    with pytest.raises(ModelError, match=r"the hub cannot be reached.*hf download org/tiny"):
        find_in_hub("hf:org/tiny")


def test_a_disk_without_room_is_said_before_a_file_is_fetched(cache, folder, online, monkeypatch):
    def full(*_):
        raise StorageError("no room")

    monkeypatch.setattr("guiju.providers.hub.require_free_space", full)
    with hub_server.serve("org/tiny", folder) as hub:
        online(hub)
        with pytest.raises(StorageError, match="no room"):
            find_in_hub("hf:org/tiny")
        assert not [path for _, path in hub.asked if "/resolve/" in path]


def test_to_load_a_folder_needs_no_hub():
    code = "import sys, guiju.providers, guiju.providers.folders\nprint('huggingface_hub' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
