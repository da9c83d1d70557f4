from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import torch
import transformers

from guiju.errors import ModelError
from guiju.model import load_model
from guiju.model.weights import open_weights
from guiju.sealing import can_seal

_spec = importlib.util.spec_from_file_location("hostile_pickles", Path(__file__).with_name("hostile_pickles.py"))
assert _spec is not None and _spec.loader is not None
hostile = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hostile)

pytestmark = pytest.mark.skipif(not can_seal(), reason="seccomp of Linux on x86_64 or aarch64 seals the process")
SIZES = {"vocab_size": 97, "n_positions": 40, "n_embd": 32, "n_layer": 2, "n_head": 4}


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**SIZES, bos_token_id=0, eos_token_id=0))
    return model.eval()


@pytest.fixture
def folder(theirs, tmp_path):
    """The published layout before safetensors: config.json and pytorch_model.bin."""
    theirs.config.save_pretrained(tmp_path)
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    return tmp_path


def _require_equal(folder, theirs, most=1e-5):
    ids = torch.arange(30).view(1, 30)
    with torch.no_grad():
        assert (load_model(folder, pickles=True)(ids) - theirs(ids).logits).abs().max() <= most


def test_a_pickle_is_read_where_it_is_allowed_and_refused_by_default(folder, theirs):
    with pytest.raises(ModelError, match=r"pickle, which can run code.*--allow-pickle; pickles=True"):
        load_model(folder)
    _require_equal(folder, theirs)


def test_the_older_layout_and_half_precision_are_read(folder, theirs):
    torch.save(theirs.state_dict(), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    _require_equal(folder, theirs)
    halves = {name: tensor.to(torch.bfloat16) for name, tensor in theirs.state_dict().items()}
    torch.save({**halves, "transformer.h.0.attn.bias": torch.ones(1, 1, 40, 40).bool()}, folder / "pytorch_model.bin")
    _require_equal(folder, theirs, 0.05)


def test_shards_are_read_as_their_index_says(folder, theirs):
    names = list(theirs.state_dict())
    shards = {"pytorch_model-00001-of-00002.bin": names[:9], "pytorch_model-00002-of-00002.bin": names[9:]}
    for shard, held in shards.items():
        torch.save({name: theirs.state_dict()[name] for name in held}, folder / shard)
    (folder / "pytorch_model.bin").unlink()
    places = {name: shard for shard, held in shards.items() for name in held}
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    _require_equal(folder, theirs)
    index.write_text(json.dumps({"weight_map": {**places, names[0]: "pytorch_model-00002-of-00002.bin"}}))
    with pytest.raises(ModelError, match=r"says that transformer\.wte\.weight is in .*00002.*, but it is not"):
        load_model(folder, pickles=True)
    for shard in ("../pytorch_model.bin", "/etc/passwd", "model.pt"):
        index.write_text(json.dumps({"weight_map": {names[0]: shard}}))
        with pytest.raises(ModelError, match=r"shards must be \.bin files beside it"):
            load_model(folder, pickles=True)


def test_safetensors_come_first_even_where_pickles_are_allowed(folder, theirs, tmp_path):
    (folder / "pytorch_model.bin").write_bytes(hostile.runs(tmp_path / "canary")["a shell, bare"])
    theirs.save_pretrained(folder)
    _require_equal(folder, theirs)
    assert not (tmp_path / "canary").exists()


def _outcome(place: Path, data: bytes) -> str:
    place.mkdir()
    (place / "pytorch_model.bin").write_bytes(data)
    began = time.monotonic()
    try:
        found = open_weights(place, pickles=True).shapes
    except ModelError as problem:
        assert time.monotonic() - began < 60
        return str(problem)
    return f"READ {found}"


def _outcomes(cases: dict[str, bytes], tmp_path: Path) -> dict[str, str]:
    with ThreadPoolExecutor(2) as pool:
        said = pool.map(_outcome, [tmp_path / f"case {number}" for number in range(len(cases))], cases.values())
        return dict(zip(cases, said, strict=True))


def _require_refused(outcomes: dict[str, str], canary: Path):
    assert not canary.exists()
    read = {name: said for name, said in outcomes.items() if said.startswith("READ")}
    assert read == {}
    assert all("Nothing of it was used" in said or "damaged" in said for said in outcomes.values())


def test_a_pickle_that_wants_to_run_something_runs_nothing(tmp_path):
    canary = tmp_path / "canary"
    cases = {**hostile.runs(canary), **hostile.zipped(canary)}
    names = ("a shell, bare", "eval as a name", "a shell, stack global, in a zip", "open, bare, in a zip")
    _require_refused(_outcomes({name: cases[name] for name in names}, tmp_path), canary)


def test_a_pickle_that_lies_is_refused(tmp_path):
    names = (
        "CVE-2026-24747: 100,000 numbers in 16 bytes",
        "an old storage of 2^30 numbers",
        "a view of 10^12 times one number",
        "deep as a key",
        "a table of numbers",
        "a tar",
        "a bomb as storage",
    )
    cases = hostile.malformed()
    _require_refused(_outcomes({name: cases[name]() for name in names}, tmp_path), tmp_path / "canary")


@pytest.mark.soak
def test_every_hostile_pickle_is_refused(tmp_path):
    canary = tmp_path / "canary"
    cases = {**hostile.runs(canary), **hostile.zipped(canary)}
    cases |= {name: make() for name, make in hostile.malformed().items()}
    outcomes = _outcomes(cases, tmp_path)
    print("\n".join(f"{name}: {said}" for name, said in outcomes.items()))
    _require_refused(outcomes, canary)


def test_the_canary_is_written_where_plain_pickle_reads(tmp_path):
    for number, (name, data) in enumerate(hostile.runs(tmp_path / "canary").items()):
        (tmp_path / "file").write_bytes(data)
        code = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
        subprocess.run([sys.executable, "-c", code, tmp_path / "file"], capture_output=True, check=False)
        assert (tmp_path / "canary").exists(), (number, name)
        (tmp_path / "canary").unlink()


def test_a_pickle_that_got_past_torch_would_find_itself_sealed(folder, tmp_path):
    """The second wall alone: torch's own list of what may be built is put aside in the child."""
    canary = tmp_path / "canary"
    for name in ("a shell, bare, in a zip", "eval as a name, in a zip"):
        data = hostile.zipped(canary)[name]
        (folder / "pytorch_model.bin").write_bytes(data)
        code = (
            "import os, sys, torch\n"
            "from guiju.model import pickled\n"
            "careful = torch.load\n"
            "def careless(file, **options):\n"
            "    return careful(file, map_location='cpu', weights_only=False)\n"
            "warm = pickled._warm_up\n"
            "def warm_up():\n"
            "    warm()\n"
            "    torch.load = careless\n"
            "pickled._warm_up = warm_up\n"
            "import json\n"
            "source = os.open(sys.argv[1], os.O_RDONLY)\n"
            "copy = os.memfd_create('copy')\n"
            "pickled.work(json.dumps({'parent': os.getppid(), 'files': [['x', source, copy]],\n"
            "    'memory_bytes': 1 << 28, 'seconds': 20}))\n"
        )
        command = [sys.executable, "-c", code, folder / "pytorch_model.bin"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "Operation not permitted" in done.stdout or "no table of tensors" in done.stdout, (name, done)
        assert not canary.exists()


def test_the_child_ends_with_its_parent_and_leaves_no_file(folder, tmp_path):
    (tmp_path / "temporary").mkdir()
    code = (
        "import sys\nfrom pathlib import Path\nfrom guiju.model.weights import open_weights\n"
        "print('ready', flush=True)\nopen_weights(Path(sys.argv[1]), pickles=True)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    parent = subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None and parent.stdout.readline() == b"ready\n"
    deadline = time.monotonic() + 30
    while not (children := psutil.Process(parent.pid).children()) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert children and not alive
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_process_that_takes_too_long_is_stopped(folder, monkeypatch):
    monkeypatch.setattr("guiju.model.pickled._SECONDS", 0)
    before = set(psutil.Process().children())  # of tests before this one
    with pytest.raises(ModelError, match="took more than 0 s and was stopped"):
        load_model(folder, pickles=True)
    assert set(psutil.Process().children()) <= before


def test_a_file_that_wants_more_memory_than_it_may_is_refused(folder, monkeypatch):
    monkeypatch.setattr("guiju.model.pickled._MEMORY_BESIDE", 0)
    big = {f"tensor {number}": torch.zeros(1) for number in range(3000)}  # small in the file, large as objects
    torch.save(big, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"memory|Nothing of it was used"):
        load_model(folder, pickles=True)


def test_a_machine_that_cannot_seal_a_process_reads_no_pickle(folder, monkeypatch):
    monkeypatch.setattr("guiju.model.pickled.can_seal", lambda: False)
    with pytest.raises(ModelError, match="this machine is not one where"):
        load_model(folder, pickles=True)
