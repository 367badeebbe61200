# SPDX-License-Identifier: Apache-2.0
"""The keys that sign slots (ed25519): made once, kept outside the project, named by a fingerprint.

The private key is a PEM file that nobody else may read. Boards get the public one, 32 raw bytes,
with their image, and take updates only from whoever has the private one.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ksmhost.errors import ExitCode, KsmhostError

PUBLIC_BYTES = 32


def default_key_path() -> Path:
    """Where the user's own key is kept: $XDG_CONFIG_HOME/ksmhost/key.pem."""
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(config).expanduser() / "ksmhost/key.pem"


def make_key(path: Path) -> bytes:
    """Write a new private key to `path`, for its owner only; return the public key.

    Never over a file that is there: boards in the field might trust it.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    if path.exists():
        raise KsmhostError(
            f"{path} is there already.",
            means="A key that is written over is lost, and with it every board that trusts it.",
            todo="Name another file, or move this one away.",
            code=ExitCode.USAGE,
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
    except OSError as error:
        raise KsmhostError(f"{path} cannot be written: {error.strerror}.") from error
    return key.public_key().public_bytes_raw()


def read_public(path: Path) -> bytes:
    """Return the public key, 32 bytes, of a file with a private or a public key.

    KsmhostError (USAGE) when the file cannot be read or holds no ed25519 key.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise KsmhostError(
            f"The key {path} cannot be read: {error.strerror}.",
            todo="Make a key with 'ksmhost keys make'." if not path.exists() else "",
            code=ExitCode.USAGE,
        ) from error
    if len(content) == PUBLIC_BYTES:
        return content
    key = _parse(path, content)
    if isinstance(key, Ed25519PrivateKey):
        key = key.public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(path, "It is a key of another kind.")
    return key.public_bytes_raw()


def _parse(path: Path, content: bytes) -> object:
    try:
        if b"PUBLIC KEY" in content:
            return serialization.load_pem_public_key(content)
        return serialization.load_pem_private_key(content, password=None)
    except TypeError as error:
        raise _no_key(path, "It is protected by a password.") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "It is no key in PEM.") from error


def _no_key(path: Path, means: str) -> KsmhostError:
    return KsmhostError(
        f"{path} holds no ed25519 key that can be used.",
        means=means,
        todo="Make one with 'ksmhost keys make'.",
        code=ExitCode.USAGE,
    )


def key_hash(public: bytes) -> bytes:
    """Return the SHA-256 by which a signed image names a key: of its form in DER."""
    der = Ed25519PublicKey.from_public_bytes(public).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).digest()


def fingerprint(public: bytes) -> str:
    """Return a key's name for people: the first eight bytes of its hash."""
    return short(key_hash(public))


def short(hash_of_key: bytes) -> str:
    """Return a fingerprint of the hash that an image carries."""
    return hash_of_key[:8].hex()
