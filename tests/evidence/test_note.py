from __future__ import annotations

import base64
import random
from hashlib import sha256

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from ledger_worlds import make_run, standalone

from guiju.errors import EvidenceError
from guiju.evidence import VerifierKey, parse_note
from guiju.evidence.keys import public_bytes
from guiju.evidence.note import decode_base64, sign_head

# RFC 8032, section 7.1: secret, public, message, signature
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24"
        "655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aee"
        "b00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28d"
        "c027beceea1ec40a",
    ),
]
ORDER = 2**252 + 27742317777372353535851937790883648493
FIELD = 2**255 - 19
KEY = VerifierKey("guiju/test/1", public_bytes(Ed25519PrivateKey.from_private_bytes(bytes(32))))
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(32))


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC_8032)
def test_the_second_verifier_takes_the_published_signatures_and_no_changed_one(secret, public, message, signature):
    public, message, signature = (bytes.fromhex(part) for part in (public, message, signature))
    assert Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret)).sign(message) == signature
    assert standalone.signature_holds(public, message, signature)
    assert not standalone.signature_holds(public, message + b"x", signature)
    for bit in random.Random(0).sample(range(512), 24):
        changed = (int.from_bytes(signature, "little") ^ 1 << bit).to_bytes(64, "little")
        assert not standalone.signature_holds(public, message, changed)


def library_holds(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def test_the_second_verifier_agrees_with_the_library_on_good_and_bad_signatures():
    draw = random.Random(1)
    for number in range(60):
        private = Ed25519PrivateKey.from_private_bytes(draw.randbytes(32))
        public, message = public_bytes(private), draw.randbytes(number)
        signature = private.sign(message)
        s = int.from_bytes(signature[32:], "little")
        cases = [
            signature,
            signature[:32] + (s + ORDER).to_bytes(32, "little"),  # the same modulo the order: malleable
            signature[:32] + bytes(32),
            bytes(32) + signature[32:],
            (1).to_bytes(32, "little") + bytes(32),
            signature[:-1],
            signature + b"\0",
            b"",
            draw.randbytes(64),
            signature[32:] + signature[:32],
        ]
        answers = [standalone.signature_holds(public, message, case) for case in cases]
        assert answers == [library_holds(public, message, case) for case in cases]
        assert answers == [True] + [False] * (len(cases) - 1)
        other = public[:-1] + bytes([public[-1] ^ 0x80])
        assert not standalone.signature_holds(other, message, signature)


SMALL = [
    y.to_bytes(32, "little")
    for value in (0, 1, FIELD - 1, 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD83D3D706A17C7)
    for y in (value, FIELD - value if value else 0)
    if y < FIELD
]


@pytest.mark.parametrize("public", sorted({*SMALL, *(key[:-1] + bytes([key[-1] | 0x80]) for key in SMALL)}))
def test_both_refuse_a_key_of_small_order_for_which_anyone_can_sign(public):
    """With such a key, S = 0 and R = the neutral point, or another small one, pass for a share of all messages."""
    key = VerifierKey("guiju/test/1", public)
    assert not key.is_sound
    for number in range(40):
        text = f"guiju/test/1\n{number + 1}\n{base64.b64encode(bytes(32)).decode()}\n"
        for r in SMALL[:4]:
            coded = base64.b64encode(key.hash + r + bytes(32)).decode()
            note = f"{text}\n\u2014 guiju/test/1 {coded}\n".encode()
            assert not parse_note(note).is_signed_by(key)
            with pytest.raises(ValueError, match="signature"):
                standalone.read_note(note, standalone.read_key(f"{key}\n".encode()))


@pytest.mark.parametrize("y", [FIELD, FIELD + 1, FIELD + 3, 2**255 - 1])
def test_both_refuse_a_key_in_another_spelling(y):
    for sign in (0, 1 << 255):
        public = (y | sign).to_bytes(32, "little")
        assert not VerifierKey("a", public).is_sound
        assert standalone.point_of(public) is None


def test_the_key_line_and_note_of_the_go_library_are_understood():
    """The example in the documentation of golang.org/x/mod/sumdb/note: another implementation of the same format."""
    line = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    key = VerifierKey.parse(line)
    assert str(key) == line
    assert key.hash.hex() == "c74f20a3"
    text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    coded = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    signature = decode_base64(coded)
    assert signature[:4] == key.hash
    assert library_holds(key.public, text.encode(), signature[4:])
    assert standalone.signature_holds(key.public, text.encode(), signature[4:])
    assert standalone.read_key(line.encode() + b"\n")[0] == "PeterNeumann"


def test_a_signed_head_reads_back_and_holds_for_its_key_alone():
    note = sign_head(PRIVATE, KEY, 7, sha256(b"root").digest())
    head = parse_note(note)
    assert (head.origin, head.size, head.root) == ("guiju/test/1", 7, sha256(b"root").digest())
    assert head.is_signed_by(KEY)
    assert not head.is_signed_by(VerifierKey("guiju/test/2", KEY.public))
    other = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
    assert not head.is_signed_by(VerifierKey("guiju/test/1", public_bytes(other)))
    assert sign_head(PRIVATE, KEY, 7, sha256(b"root").digest()) == note


def test_a_third_library_takes_the_signature_of_a_run(quick, home):
    """securesystemslib, as used by in-toto and TUF."""
    from securesystemslib.signer import SSlibKey

    run = make_run(quick / "run", seed=0, steps=1)
    head = parse_note((run / "ledger/note").read_bytes())
    public = VerifierKey.parse((run / "ledger/keys.pub").read_text().strip()).public
    from securesystemslib.signer import Signature

    key = SSlibKey("id", "ed25519", "ed25519", {"public": public.hex()})
    key.verify_signature(Signature("id", head.signature.hex()), head.text)


NOTE = sign_head(PRIVATE, KEY, 12, sha256(b"root").digest())


@pytest.mark.parametrize(
    "change",
    [
        lambda note: note + b"\n",
        lambda note: note[:-1],
        lambda note: note.replace(b"\n\n", b"\n"),
        lambda note: note.replace(b"\n12\n", b"\n012\n"),
        lambda note: note.replace(b"\n12\n", b"\n+12\n"),
        lambda note: note.replace(b"\n12\n", b"\n0\n"),
        lambda note: note.replace(b"\n12\n", b"\n\xc2\xb92\n"),
        lambda note: note.replace(b"\n", b"\r\n"),
        lambda note: note.replace(b"=\n\n", b"=\nan extension\n\n"),
        lambda note: note.replace(b"=\n\n", b"= \n\n"),
        lambda note: note.replace("\u2014".encode(), b"-"),
        lambda note: note.replace("\u2014 ".encode(), "\u2014  ".encode()),
        lambda note: note + note[note.index("\u2014".encode()) :],
        lambda note: note.replace("\u2014 guiju/test/1".encode(), "\u2014 guiju/test/2".encode()),
        lambda note: note.replace(b"=\n\n", b"\n\n"),
        lambda note: b"\xef\xbb\xbf" + note,
        lambda note: note.replace(b"test", b"t\xffst"),
        lambda note: b"",
    ],
)
def test_a_note_in_any_other_form_is_refused_by_both(change):
    changed = change(NOTE)
    assert changed != NOTE
    with pytest.raises(EvidenceError):
        parse_note(changed)
    with pytest.raises(ValueError):
        standalone.read_note(changed, None)


def test_base64_has_one_spelling(quick):
    for text in ("AB==", "AAB=", "AA==\n", " AA==", "AA", "A===", "AA=A", "A_-=", "AA==AA==", "\u0661AA="):
        with pytest.raises(EvidenceError):
            decode_base64(text)
        with pytest.raises(ValueError):
            standalone.unbase64(text)
    assert decode_base64("AA==") == standalone.unbase64("AA==") == b"\0"


@pytest.mark.parametrize(
    "line",
    [
        "", "a", "a+b", "a+00000000+" + "A" * 44, str(KEY) + " ", str(KEY).upper(), str(KEY)[:-1],
        str(KEY).replace("test", "tent"), str(KEY).replace("+AT", "+AQ"), "a b" + str(KEY), str(KEY) + "\n",
        "x+" + sha256(b"x\n\2" + bytes(32)).hexdigest()[:8] + "+" + base64.b64encode(b"\2" + bytes(32)).decode(),
    ],
)  # fmt: skip
def test_a_key_line_in_any_other_form_is_refused_by_both(line):
    with pytest.raises(EvidenceError):
        VerifierKey.parse(line)
    with pytest.raises(ValueError):
        standalone.read_key(line.encode() + b"\n")
