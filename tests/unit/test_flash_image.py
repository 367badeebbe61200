# SPDX-License-Identifier: Apache-2.0
"""Keys and signed images: made by imgtool as the build does, read back, and told apart when bad."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ksmhost.cli.command import run
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.flash.image import (
    TLV_BOARD,
    TLV_BUILD_ID,
    TLV_MODELS,
    Version,
    check_board,
    check_model,
    check_signature,
    read_slot_image,
)
from ksmhost.flash.keys import (
    default_key_path,
    fingerprint,
    key_hash,
    make_key,
    read_public,
    short,
)

CONTENT = bytes(range(256)) * 16
BOARD = ("--custom-tlv", hex(TLV_BOARD), "qemu-virt")
BUILD_ID = ("--custom-tlv", hex(TLV_BUILD_ID), "0x" + "ab" * 20)

Make = Callable[..., Path]


def imgtool(folder: Path, *words: str) -> Path:
    """An image made by imgtool, with what the build passes to it and `words`."""
    content, out = folder / "content", folder / "slot.bin"
    content.write_bytes(CONTENT)
    fixed = ("--header-size", "0x1000", "--pad-header", "--slot-size", str(1 << 20))
    align = ("--align", "1", "--sha", "256", "--version", "1.2.3+45")
    command = [sys.executable, "-m", "imgtool.main", "sign", *fixed, *align, *words]
    subprocess.run([*command, str(content), str(out)], check=True, capture_output=True, timeout=60)
    return out


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key to sign with."""
    path = tmp_path_factory.mktemp("keys") / "key.pem"
    make_key(path)
    return path


@pytest.fixture(scope="module")
def good(key: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image as the build makes it."""
    return imgtool(tmp_path_factory.mktemp("good"), "--key", str(key), *BOARD, *BUILD_ID)


def refused(path: Path, why: str, code: ExitCode = ExitCode.BAD_IMAGE) -> None:
    with pytest.raises(KsmhostError, match=why) as error:
        read_slot_image(path)
    assert error.value.code is code and error.value.todo


def test_an_image_goes_to_models_whose_trees_it_has(key: Path, good: Path, tmp_path: Path) -> None:
    family = ("--custom-tlv", hex(TLV_MODELS), "4b,400")
    image = read_slot_image(imgtool(tmp_path, "--key", str(key), *BOARD, *BUILD_ID, *family))
    assert image.models == ("4b", "400")
    pi4, cm4, pi9, untold = 0xC03112, 0xB03140, 0xC03FF0, 0
    for revision in (pi4, pi9, untold):
        check_model(image, revision)
    with pytest.raises(KsmhostError, match="no device tree for a Raspberry Pi Comp") as error:
        check_model(image, cm4)
    assert error.value.code is ExitCode.WRONG_BOARD
    assert read_slot_image(good).models == ()
    check_model(read_slot_image(good), cm4)


def test_what_an_image_says_of_itself(good: Path, key: Path) -> None:
    image, public = read_slot_image(good), read_public(key)
    assert (image.board, image.build_id) == ("qemu-virt", "ab" * 20)
    assert image.version == Version(1, 2, 3, 45) and str(image.version) == "1.2.3+45"
    assert Version(1, 2, 3, 45) < Version(1, 2, 3, 46) < Version(1, 10, 0, 0)
    assert image.size_bytes == good.stat().st_size
    assert image.key_hash == key_hash(public) and short(image.key_hash) == fingerprint(public)
    check_signature(image, public)
    check_board(image, "qemu-virt")


def test_another_s_key_and_another_board_are_told(good: Path, tmp_path: Path) -> None:
    image = read_slot_image(good)
    with pytest.raises(KsmhostError, match="is signed with the key") as wrong:
        check_signature(image, make_key(tmp_path / "other.pem"))
    assert wrong.value.code is ExitCode.BAD_SIGNATURE
    with pytest.raises(KsmhostError, match="for the board qemu-virt, not for rpi4") as other:
        check_board(image, "rpi4")
    assert other.value.code is ExitCode.WRONG_BOARD


def test_a_signature_that_is_wrong_is_told(good: Path, key: Path, tmp_path: Path) -> None:
    data = bytearray(good.read_bytes())
    data[-1] ^= 1
    bad = tmp_path / "bad.bin"
    bad.write_bytes(data)
    with pytest.raises(KsmhostError, match=r"signature of .* is wrong") as wrong:
        check_signature(read_slot_image(bad), read_public(key))
    assert wrong.value.code is ExitCode.BAD_SIGNATURE


def test_images_that_lack_something_are_told(key: Path, tmp_path: Path) -> None:
    refused(imgtool(tmp_path, *BOARD, *BUILD_ID), "not signed")
    refused(imgtool(tmp_path, "--key", str(key)), "what board")
    refused(imgtool(tmp_path, "--key", str(key), "--custom-tlv", "0xa0", "0xff00"), "what board")
    refused(tmp_path / "nosuch", "cannot be read", ExitCode.USAGE)
    (tmp_path / "text").write_text("hello " * 100)
    refused(tmp_path / "text", "no image for a slot")
    (tmp_path / "empty").write_bytes(b"")
    refused(tmp_path / "empty", "no image for a slot")


def test_every_cut_is_told(good: Path, tmp_path: Path) -> None:
    data, cut = good.read_bytes(), tmp_path / "cut.bin"
    for size in [*range(64), 4096, 5000, *range(len(data) - 250, len(data))]:
        cut.write_bytes(data[:size])
        refused(cut, "cut short|no image|damaged")
    cut.write_bytes(data + b"\0")
    refused(cut, "longer")


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_change_goes_unseen(good: Path, key: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(good.read_bytes())
    tail = st.integers(len(content) - 240, len(content) - 1)
    at = data.draw(st.integers(0, 31) | tail | st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    changed = tmp_path / "changed.bin"
    changed.write_bytes(content)
    with pytest.raises(KsmhostError):
        check_signature(read_slot_image(changed), read_public(key))


def test_lengths_are_not_believed(good: Path, tmp_path: Path) -> None:
    data, bad = bytearray(good.read_bytes()), tmp_path / "bad.bin"
    for at, form, value in (
        (12, "<I", 0xFFFFFFFF),
        (12, "<I", 0),
        (10, "<H", 0xFFFF),
        (10, "<H", 2),
    ):
        changed = bytearray(data)
        struct.pack_into(form, changed, at, value)
        bad.write_bytes(changed)
        refused(bad, "cut short|damaged|longer")


# -- keys -----------------------------------------------------------------------------------------


def test_a_key_is_its_owner_s_and_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "new/folder/key.pem"
    public = make_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_public(path) == public
    before = path.read_bytes()
    with pytest.raises(KsmhostError, match="is there already") as there:
        make_key(path)
    assert there.value.code is ExitCode.USAGE and path.read_bytes() == before
    (tmp_path / "file").write_text("")
    with pytest.raises(KsmhostError, match="cannot be written"):
        make_key(tmp_path / "file/key.pem")


def test_the_public_half_is_read_too(key: Path, tmp_path: Path) -> None:
    public = read_public(key)
    raw, pem = tmp_path / "key.pub", tmp_path / "pub.pem"
    raw.write_bytes(public)
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pem.write_bytes(private.public_key().public_bytes(serialization.Encoding.PEM, form))
    assert read_public(raw) == read_public(pem) == public


def test_what_is_no_key_is_told(key: Path, tmp_path: Path) -> None:
    path, form = tmp_path / "key.pem", serialization.PrivateFormat.PKCS8
    with pytest.raises(KsmhostError, match=r"cannot be read.*keys make"):
        read_public(path)
    for content in (
        b"",
        b"hello",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ):
        path.write_bytes(content)
        with pytest.raises(KsmhostError, match="no key in PEM"):
            read_public(path)
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    path.write_bytes(private.private_bytes(serialization.Encoding.PEM, form, locked))
    with pytest.raises(KsmhostError, match="password"):
        read_public(path)
    plain = serialization.NoEncryption()
    other = generate_private_key(SECP256R1())
    path.write_bytes(other.private_bytes(serialization.Encoding.PEM, form, plain))
    with pytest.raises(KsmhostError, match="another kind"):
        read_public(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_key_that_may_not_be_read_is_told(key: Path, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(key.read_bytes())
    path.chmod(0)
    with pytest.raises(KsmhostError, match="cannot be read: Permission denied"):
        read_public(path)


def test_the_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert run(["keys", "show"]) == ExitCode.USAGE
    assert "ksmhost keys make" in capsys.readouterr().err
    assert run(["keys", "make"]) == 0
    name = fingerprint(read_public(default_key_path()))
    assert name in capsys.readouterr().out
    assert run(["keys", "show"]) == 0
    assert name in capsys.readouterr().out
    assert run(["keys", "show", "--json"]) == 0
    assert f'"{name}"' in capsys.readouterr().out
    assert run(["keys", "make"]) == ExitCode.USAGE
    assert "is there already" in capsys.readouterr().err
