# SPDX-License-Identifier: Apache-2.0
"""The file that goes into a slot: what it is, whether it is whole, who made it and for what board.

A MCUboot image as docs/IMAGE.md lays it out. Nothing in the file is trusted: every length is
checked before it is followed.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ksmhost.board.disk import SLOT_HEADER_BYTES
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.flash.keys import fingerprint, key_hash, short
from ksmhost.videocore.models import model_of

TLV_BOARD: Final = 0x00A0
"""The board's name, ASCII; protected."""
TLV_BUILD_ID: Final = 0x00A1
"""The kernel's GNU build-id; protected."""
TLV_MODELS: Final = 0x00A2
"""The models whose trees it has, by name, with commas between; protected. None: not a family's."""

_TLV_KEY_HASH: Final = 0x01
_TLV_SHA256: Final = 0x10
_TLV_ED25519: Final = 0x24

_MAGIC: Final = 0x96F3B83D
_HEADER = struct.Struct("<IIHHIIBBHI4x")
_TLV = struct.Struct("<HH")
_PROTECTED: Final = 0x6908
_PLAIN: Final = 0x6907


class Version(NamedTuple):
    """An image's version; a later one is greater."""

    major: int
    minor: int
    revision: int
    build: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.revision}+{self.build}"


@dataclass(frozen=True, slots=True)
class SlotImage:
    """A whole image: its hash is right. Who signed it is for `check_signature` to say."""

    path: Path
    size_bytes: int
    """Of the whole file, which is what a slot gets."""
    image_sha: bytes
    """SHA-256 of the whole file."""
    digest: bytes
    """The SHA-256 that the image carries, of all but its signature."""
    version: Version
    board: str
    models: tuple[str, ...]
    """The models that it can start; empty where the board is no family."""
    build_id: str
    """The kernel's, in hex."""
    key_hash: bytes
    """Names the key it is signed with."""
    signature: bytes
    data: bytes = field(repr=False)
    """The whole file, as it was checked."""


def read_slot_image(path: Path) -> SlotImage:
    """Read an image. KsmhostError (BAD_IMAGE) unless it is whole, signed, and names its board."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise KsmhostError(
            f"The image {path} cannot be read: {error.strerror}.",
            todo="Build it: scons board=NAME makes build/NAME/slot.bin.",
            code=ExitCode.USAGE,
        ) from error
    return _parse(path, data)


def check_signature(image: SlotImage, public: bytes) -> None:
    """Raise KsmhostError (BAD_SIGNATURE) unless `public` is the key that signed the image."""
    if image.key_hash != key_hash(public):
        raise KsmhostError(
            f"{image.path} is signed with the key {short(image.key_hash)}, "
            f"not with {fingerprint(public)}.",
            means="The board takes images only from who has the private half of that key.",
            todo="Build the image with that key: scons key=PATH.",
            code=ExitCode.BAD_SIGNATURE,
        )
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(image.signature, image.digest)
    except InvalidSignature as error:
        raise KsmhostError(
            f"The signature of {image.path} is wrong.",
            means="Somebody changed the image after it was signed, or it is damaged.",
            todo="Build it anew.",
            code=ExitCode.BAD_SIGNATURE,
        ) from error


def check_board(image: SlotImage, board: str) -> None:
    """Raise KsmhostError (WRONG_BOARD) unless the image is for the board of that name."""
    if image.board != board:
        raise KsmhostError(
            f"{image.path} is for the board {image.board}, not for {board}.",
            means="It would not start there.",
            todo=f"Build the right one: scons board={board}",
            code=ExitCode.WRONG_BOARD,
        )


def check_model(image: SlotImage, revision: int) -> None:
    """Raise KsmhostError (WRONG_BOARD) if the image has no tree for a board of that revision code.

    0 is the code of a board that does not tell it: U-Boot will know.
    """
    model = model_of(revision)
    if image.models and model is not None and model.name not in image.models:
        raise KsmhostError(
            f"{image.path} has no device tree for a {model.title}; it has those of "
            f"{', '.join(image.models)}.",
            means="It would not start there.",
            todo=f"Build one that has: 'models' in board.toml of {image.board}.",
            code=ExitCode.WRONG_BOARD,
        )


def _parse(path: Path, data: bytes) -> SlotImage:
    protected_at, protected_bytes, version = _header(path, data)
    plain_at = protected_at + protected_bytes
    protected = _area(path, data, protected_at, _PROTECTED, protected_bytes)
    plain = _area(path, data, plain_at, _PLAIN, len(data) - plain_at)
    digest = hashlib.sha256(data[:plain_at]).digest()
    if plain.get(_TLV_SHA256) != digest:
        raise _bad(path, "is damaged: its content does not match its hash")
    for number, what in ((_TLV_KEY_HASH, "key"), (_TLV_ED25519, "signature")):
        if number not in plain:
            raise _bad(
                path, f"is not signed: it has no {what}", "Build it with scons, which signs."
            )
    return SlotImage(
        path=path,
        size_bytes=len(data),
        image_sha=hashlib.sha256(data).digest(),
        digest=digest,
        version=version,
        board=_name(path, protected),
        models=_models(path, protected),
        build_id=protected.get(TLV_BUILD_ID, b"").hex(),
        key_hash=plain[_TLV_KEY_HASH],
        signature=plain[_TLV_ED25519],
        data=data,
    )


def _header(path: Path, data: bytes) -> tuple[int, int, Version]:
    """Return where the TLVs start, how many bytes of them are protected, and the version."""
    if len(data) < _HEADER.size or int.from_bytes(data[:4], "little") != _MAGIC:
        raise _bad(path, "is no image for a slot")
    _, _, header_bytes, protected_bytes, content_bytes, _, *version = _HEADER.unpack_from(data)
    if header_bytes != SLOT_HEADER_BYTES:
        raise _bad(path, f"has a header of {header_bytes} bytes, not {SLOT_HEADER_BYTES}")
    end = header_bytes + content_bytes
    if end + protected_bytes + _TLV.size > len(data):
        raise _bad(path, f"is cut short: it has {len(data)} bytes and should have more than {end}")
    return end, protected_bytes, Version(*version)


def _area(path: Path, data: bytes, at: int, magic: int, size_bytes: int) -> Mapping[int, bytes]:
    """Return the values of one area of TLVs, by their numbers."""
    if size_bytes == 0:
        return {}
    found, total = _TLV.unpack_from(data, at) if size_bytes >= _TLV.size else (0, 0)
    if found != magic or total < _TLV.size:
        raise _bad(path, "is damaged: what describes it is not where it should be")
    if total != size_bytes:
        raise _bad(path, "is cut short" if total > size_bytes else "is longer than it says")
    values: dict[int, bytes] = {}
    at, end = at + _TLV.size, at + total
    while at < end:
        number, length = _TLV.unpack_from(data, at) if at + _TLV.size <= end else (0, end)
        at += _TLV.size
        if at + length > end or number in values:
            raise _bad(path, "is damaged: what describes it makes no sense")
        values[number] = data[at : at + length]
        at += length
    return values


def _name(path: Path, protected: Mapping[int, bytes]) -> str:
    try:
        name = protected.get(TLV_BOARD, b"").decode("ascii")
    except UnicodeDecodeError:
        name = ""
    if not name.isprintable() or not name:
        raise _bad(path, "does not say what board it is for")
    return name


def _models(path: Path, protected: Mapping[int, bytes]) -> tuple[str, ...]:
    listed = protected.get(TLV_MODELS, b"").decode("ascii", errors="replace")
    if not listed.isprintable():
        raise _bad(path, "does not say what models it is for")
    return tuple(filter(None, listed.split(",")))


def _bad(path: Path, what: str, todo: str = "Build it anew, or copy it once more.") -> KsmhostError:
    return KsmhostError(f"{path} {what}.", todo=todo, code=ExitCode.BAD_IMAGE)
