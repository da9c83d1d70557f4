"""The tree head that is signed: a C2SP signed note over a checkpoint, and the key that checks it.

Formats: https://c2sp.org/signed-note and https://c2sp.org/tlog-checkpoint, with exactly one signature and no extension
line, so that there is one valid sequence of bytes.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from guiju.errors import EvidenceError

_ED25519 = b"\x01"
_FIELD = 2**255 - 19
_EIGHTH = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD83D3D706A17C7
_SMALL_ORDER = {0, 1, _FIELD - 1, _EIGHTH, _FIELD - _EIGHTH}
"""The y of the eight points whose order divides 8."""
_NOTE = re.compile(
    "\\A(?P<text>(?P<origin>[^\\n]+)\\n(?P<size>[1-9][0-9]{0,15})\\n(?P<root>[A-Za-z0-9+/]{43}=)\\n)\\n"
    "\u2014 (?P<name>[^ \\n]+) (?P<signature>[A-Za-z0-9+/]{91}=)\\n\\Z"
)
_VKEY = re.compile(r"\A(?P<origin>[!-*,-~]+)\+(?P<hash>[0-9a-f]{8})\+(?P<key>[A-Za-z0-9+/]{44})\Z")


@dataclass(frozen=True)
class VerifierKey:
    """Whose signature counts for a ledger: its origin and its Ed25519 public key (32 bytes)."""

    origin: str
    public: bytes

    @property
    def hash(self) -> bytes:
        """The four bytes by which a signature line names its key."""
        return sha256(self.origin.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    @property
    def is_sound(self) -> bool:
        """Whether the public key is spelled in its one way, and not of small order, for which anyone can sign."""
        y = int.from_bytes(self.public, "little") & (1 << 255) - 1
        return y < _FIELD and y not in _SMALL_ORDER

    def __str__(self) -> str:
        return f"{self.origin}+{self.hash.hex()}+{base64.b64encode(_ED25519 + self.public).decode()}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """The key out of its C2SP line, without the newline.

        Raises:
            EvidenceError: it is no such line, or its parts contradict each other.
        """
        found = _VKEY.match(text)
        if not found:
            raise EvidenceError("this is no verifier key: it should read NAME+HASH+KEY in one line")
        raw = decode_base64(found["key"])
        if raw[:1] != _ED25519 or len(raw) != 33:
            raise EvidenceError("this verifier key is not an Ed25519 key")
        key = cls(found["origin"], raw[1:])
        if key.hash.hex() != found["hash"]:
            raise EvidenceError("the hash in this verifier key is not that of its name and key")
        return key


@dataclass(frozen=True)
class TreeHead:
    """A signed statement: the ledger `origin` had `size` entries, and this root over them."""

    origin: str
    size: int
    root: bytes
    key_hash: bytes
    signature: bytes

    @property
    def text(self) -> bytes:
        """What is signed."""
        return head_text(self.origin, self.size, self.root)

    def is_signed_by(self, key: VerifierKey) -> bool:
        """Whether it is a statement of this key about this key's origin."""
        if self.origin != key.origin or self.key_hash != key.hash or not key.is_sound:
            return False
        try:
            Ed25519PublicKey.from_public_bytes(key.public).verify(self.signature, self.text)
        except (InvalidSignature, ValueError):
            return False
        return True


def head_text(origin: str, size: int, root: bytes) -> bytes:
    return f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n".encode()


def sign_head(private: Ed25519PrivateKey, key: VerifierKey, size: int, root: bytes) -> bytes:
    """The bytes of a signed note. Equal heads give equal bytes."""
    text = head_text(key.origin, size, root)
    signature = base64.b64encode(key.hash + private.sign(text))
    return text + b"\n" + "\u2014 ".encode() + key.origin.encode() + b" " + signature + b"\n"


def parse_note(data: bytes) -> TreeHead:
    """A signed note, its form checked; the signature is not.

    Raises:
        EvidenceError: the bytes are no such note.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise EvidenceError("this is no signed note: it is not UTF-8") from None
    found = _NOTE.match(text)
    if not found:
        raise EvidenceError(
            "this is no signed note: it should hold origin, size, root, an empty line and one signature line"
        )
    if found["name"] != found["origin"]:
        raise EvidenceError("this note is signed under another name than its origin")
    signature = decode_base64(found["signature"])
    return TreeHead(
        origin=found["origin"],
        size=int(found["size"]),
        root=decode_base64(found["root"]),
        key_hash=signature[:4],
        signature=signature[4:],
    )


def decode_base64(text: str) -> bytes:
    """Standard base64 of which there is one spelling: no white space, padded, no stray bits at the end.

    Raises:
        EvidenceError: it is anything else.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise EvidenceError("this is no base64") from None
    if base64.b64encode(raw).decode() != text:
        raise EvidenceError("this base64 has stray bits at its end")
    return raw
