"""Who made a pack: an Ed25519 signature beside its description.

``catalogue.sig`` holds the maker's public key and a signature of ``catalogue.json``, which
holds the checksum of everything else. A signature that does not fit is refused wherever it is
found; that a pack is signed at all, and by whom, matters only where its folder says whom to
trust (``trusted.keys``, one key a line, ``#`` for remarks).

Ed25519 (RFC 8032) as libsodium computes it, by PyNaCl; keys and signatures are in base64.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path

import msgspec
from nacl.exceptions import BadSignatureError, CryptoError
from nacl.signing import SigningKey, VerifyKey

from edge.errors import CatalogueError, UsageError

SIGNATURE_FILE = "catalogue.sig"
KEYS_FILE = "trusted.keys"


class _Signature(msgspec.Struct, frozen=True):
    key: str
    signature: str


def new_key() -> str:
    """A secret signing key."""
    return base64.b64encode(bytes(SigningKey.generate())).decode()


def public_key(secret_key: str) -> str:
    """The key that others trust; UsageError where ``secret_key`` is none."""
    return base64.b64encode(bytes(_signing_key(secret_key).verify_key)).decode()


def sign(description: Path, secret_key: str) -> None:
    """Write the signature of a pack's description beside it."""
    signed = _signing_key(secret_key).sign(description.read_bytes()).signature
    signature = _Signature(public_key(secret_key), base64.b64encode(signed).decode())
    beside = description.with_name(SIGNATURE_FILE)
    beside.write_bytes(msgspec.json.encode(signature) + b"\n")


def _signing_key(secret_key: str) -> SigningKey:
    try:
        return SigningKey(base64.b64decode(secret_key, validate=True))
    except (binascii.Error, ValueError, CryptoError):
        raise UsageError(
            "the signing key is not 32 bytes in base64; `sostenuto-studio catalog key` makes one"
        ) from None


def trusted_keys_in(folder: Path) -> tuple[str, ...]:
    """The keys in a folder's ``trusted.keys``; none where there is no such file.

    Raises
    ------
    CatalogueError
        The file cannot be read, or names no key: trusting nobody is not trusting everybody.
    """
    path = folder / KEYS_FILE
    if not path.exists():
        return ()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogueError(f"{path} cannot be read ({error}); one key a line") from None
    keys = tuple(key for line in lines if (key := line.partition("#")[0].strip()))
    if not keys:
        raise CatalogueError(f"{path} names no key: add the maker's, or remove the file")
    return keys


def check_signature(description: Path, trusted_keys: Sequence[str] = ()) -> None:
    """Check the signature beside a pack's description.

    Parameters
    ----------
    description : Path
        The pack's ``catalogue.json``.
    trusted_keys : sequence of str
        Where any are given, the pack must be signed with one of them.

    Raises
    ------
    CatalogueError
        The signature is wrong, or there is none by a key that is trusted.
    """
    pack = description.parent
    path = description.with_name(SIGNATURE_FILE)
    if not path.exists():
        if trusted_keys:
            raise CatalogueError(
                f"catalogue {pack} is not signed, and {pack.parent / KEYS_FILE} asks for it: "
                "get a signed one from its maker"
            )
        return
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Signature)
        key = VerifyKey(base64.b64decode(found.key, validate=True))
        key.verify(description.read_bytes(), base64.b64decode(found.signature, validate=True))
    except (BadSignatureError, binascii.Error, ValueError, CryptoError, OSError):
        raise CatalogueError(
            f"catalogue {pack} has a wrong signature: it was changed after it was signed; "
            "get it again from its maker"
        ) from None
    if trusted_keys and found.key not in trusted_keys:
        raise CatalogueError(
            f"catalogue {pack} is signed with {found.key}, which {pack.parent / KEYS_FILE} "
            "does not name: add the key if you trust its maker"
        )
