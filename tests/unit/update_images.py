# SPDX-License-Identifier: Apache-2.0
"""What tests of updates need: keys, signed images, slots and boot state in files, streams."""

from __future__ import annotations

import hashlib
import random
import struct
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

BLOCK = 4096
SLOT_BYTES = 2 << 20
"""A slot file; an image may take all but its last block."""
STATE_OFFSETS = (1 << 20, 5 << 20)
STATE = struct.Struct("<4sIIBBBB")
GROUP_MAX = 1 << 20


def make_key(folder: Path, name: str) -> Path:
    """A new signing key as NAME.pem; NAME.pub is its public half, raw."""
    key = Ed25519PrivateKey.generate()
    pem = folder / f"{name}.pem"
    pem.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    pem.with_suffix(".pub").write_bytes(public)
    return pem


def random_bytes(seed: int, size: int) -> bytes:
    """The same bytes for the same seed."""
    return random.Random(seed).randbytes(size)


def sign(
    content: bytes,
    key: Path | None,
    *,
    board: str | None = "qemu-virt",
    version: str = "0.1.0+7",
    build_id: str = "0123456789abcdef0123456789abcdef01234567",
) -> bytes:
    """An image as the build makes it, by imgtool."""
    folder = (key or Path("/tmp")).parent
    plain, signed = folder / "plain.bin", folder / "signed.bin"
    plain.write_bytes(content)
    words = [sys.executable, "-m", "imgtool.main", "sign", "--align", "1", "--version", version]
    words += ["--header-size", "0x1000", "--pad-header", "--slot-size", hex(64 << 20)]
    words += ["--key", str(key)] if key else []
    words += ["--custom-tlv", "0x00a0", board] if board else []
    words += ["--custom-tlv", "0x00a1", f"0x{build_id}"]
    subprocess.run(
        [*words, str(plain), str(signed)], check=True, capture_output=True, text=True, timeout=60
    )
    return signed.read_bytes()


def sha256(data: bytes) -> bytes:
    """Of a file, whole."""
    return hashlib.sha256(data).digest()


def hash_tlv(image: bytes) -> bytes:
    """What the image's signature is over."""
    header, protected, size = struct.unpack_from("<HHI", image, 8)
    return sha256(image[: header + size + protected])


def block_hashes(image: bytes) -> bytes:
    """The index of an image."""
    blocks = (image[at : at + BLOCK] for at in range(0, len(image), BLOCK))
    return b"".join(sha256(block)[:8] for block in blocks)


# -- streams ---------------------------------------------------------------------------------------


def group(at: int, data: bytes, source: bytes = b"", source_at: int = 0) -> bytes:
    """A group that holds `data`, compressed against `source`, which lies there in the old slot."""
    prefix = (
        zstandard.ZstdCompressionDict(source, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        if source
        else None
    )
    frame = zstandard.ZstdCompressor(level=3, dict_data=prefix).compress(data)
    return header(at, data, source_at, len(source), frame) + frame


def copy_group(at: int, data: bytes, source_at: int) -> bytes:
    """A group that says: as in the running slot."""
    return header(at, data, source_at, len(data), b"")


def header(at: int, data: bytes, source_at: int, source_size: int, frame: bytes) -> bytes:
    """The 24 bytes before a frame."""
    crc = zlib.crc32(data)
    return struct.pack("<6I", at, len(data), source_at, source_size, crc, len(frame))


def plain_stream(image: bytes, group_bytes: int = 256 << 10) -> bytes:
    """All of an image, compressed, in groups."""
    pieces = range(0, len(image), group_bytes)
    return b"".join(group(at, image[at : at + group_bytes]) for at in pieces)


# -- slots and state -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BootState:
    """The boot state, as the boot loader reads it."""

    first: int = 0
    tries: int = 0
    trial: int = 0
    outcome: int = 0
    sequence: int = 1

    def sector(self) -> bytes:
        """As it lies on the disk."""
        head = STATE.pack(
            b"KSMB", 2, self.sequence, self.first, self.tries, self.trial, self.outcome
        ).ljust(508, b"\0")
        return head + struct.pack(">I", zlib.crc32(head))


def read_state(sector: bytes) -> BootState | None:
    """A copy, if it is whole."""
    if struct.pack(">I", zlib.crc32(sector[:508])) != sector[508:512]:
        return None
    magic, version, sequence, first, tries, trial, outcome = STATE.unpack_from(sector)
    assert (magic, version) == (b"KSMB", 2)
    return BootState(first, tries, trial, outcome, sequence)


@dataclass(frozen=True, slots=True)
class Disk:
    """Two slots and the state, each a file."""

    folder: Path

    @property
    def slots(self) -> tuple[Path, Path]:
        """The slots' files."""
        return self.folder / "slot-a", self.folder / "slot-b"

    @property
    def state_file(self) -> Path:
        """What holds the two copies of the state."""
        return self.folder / "disk"

    def make(self, a: bytes = b"", b: bytes = b"", state: BootState | None = None) -> Disk:
        """Lay all out anew."""
        for path, image in zip(self.slots, (a, b), strict=True):
            path.write_bytes(image.ljust(SLOT_BYTES, b"\0"))
        self.state_file.write_bytes(bytes(6 << 20))
        self.set_state(state or BootState())
        return self

    def set_state(self, state: BootState) -> None:
        """Both copies, the second one step older."""
        with self.state_file.open("r+b") as disk:
            for offset, back in zip(STATE_OFFSETS, (0, 1), strict=True):
                disk.seek(offset)
                older = BootState(
                    state.first, state.tries, state.trial, state.outcome, state.sequence - back
                )
                disk.write(older.sector())

    def copies(self) -> list[BootState | None]:
        """Both copies of the state."""
        data = self.state_file.read_bytes()
        return [read_state(data[at : at + 512]) for at in STATE_OFFSETS]

    def state(self) -> BootState:
        """The copy that counts."""
        return max((c for c in self.copies() if c), key=lambda copy: copy.sequence)

    def progress(self, slot: int) -> tuple[int, int]:
        """The sequence number of the newest record of an update, and the offset it has."""
        tail = self.slots[slot].read_bytes()[-BLOCK:]
        records = [tail[at : at + 512] for at in (0, 512)]
        found = [struct.unpack_from("<8xI8xI", r) for r in records if r[:4] == b"KSMU"]
        return max(found, default=(0, 0))

    def options(self, key: Path, running: str = "a") -> list[str]:
        """For the agent."""
        a, b = self.slots
        words = ["--slots", f"{a},{b}", "--state", str(self.state_file)]
        words += ["--key", str(key.with_suffix(".pub"))]
        return [*words, "--running", running] if running else words
