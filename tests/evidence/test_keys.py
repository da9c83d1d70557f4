from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from guiju.errors import EvidenceError, StorageError
from guiju.evidence import Run, guiju_home, ledger_key
from guiju.evidence.keys import public_bytes


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_key_is_made_at_first_use_and_kept(home):
    key = ledger_key()
    path = home / "keys/ledger.key"
    assert mode(path) == 0o600
    assert mode(path.parent) == mode(home) == 0o700
    assert public_bytes(ledger_key()) == public_bytes(key)
    assert list(path.parent.iterdir()) == [path]


def test_many_who_make_the_key_at_once_get_the_same_one(home):
    with ThreadPoolExecutor(8) as pool:
        keys = {public_bytes(key) for key in pool.map(lambda _: ledger_key(), range(16))}
    assert len(keys) == 1


@pytest.mark.parametrize("lax", [0o644, 0o640, 0o660, 0o604, 0o601])
def test_a_key_that_others_may_use_is_refused_with_the_way_out(home, quick, lax):
    ledger_key()
    (home / "keys/ledger.key").chmod(lax)
    with pytest.raises(EvidenceError, match=rf"mode {lax:04o}.*chmod 600"):
        Run.create(quick / "run", name="never")
    assert not (quick / "run/ledger").exists()
    (home / "keys/ledger.key").chmod(0o400)
    ledger_key()


@pytest.mark.parametrize("lax", [0o777, 0o770, 0o702])
def test_a_key_folder_into_which_others_may_write_is_refused(home, lax):
    ledger_key()
    (home / "keys").chmod(lax)
    with pytest.raises(EvidenceError, match="chmod 700"):
        ledger_key()


def test_a_file_that_is_no_ed25519_key_is_refused(home):
    ledger_key()
    path = home / "keys/ledger.key"
    other = ec.generate_private_key(ec.SECP256R1())
    for data in (b"", b"x", other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())):
        path.write_bytes(data)
        with pytest.raises(EvidenceError, match="restore it from a copy"):
            ledger_key()


def test_a_home_that_cannot_be_made_is_a_clear_error(quick, monkeypatch):
    (quick / "file").write_text("")
    monkeypatch.setenv("GUIJU_HOME", str(quick / "file/home"))
    with pytest.raises(StorageError, match="set GUIJU_HOME"):
        ledger_key()


def test_the_home_is_the_users_own_where_none_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("GUIJU_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert guiju_home() == tmp_path / ".guiju"


def test_the_run_holds_nothing_of_the_private_key(home, quick):
    Run.create(quick / "run", name="open").close()
    secret = (home / "keys/ledger.key").read_bytes().splitlines()[1]
    assert all(secret not in path.read_bytes() for path in (quick / "run").rglob("*") if path.is_file())
