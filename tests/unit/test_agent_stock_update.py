# SPDX-License-Identifier: Apache-2.0
"""Updates by SMP clients nobody here wrote: smpclient and smpmgr against slots in files."""

from __future__ import annotations

import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest
from agent_peer import AgentPeer, AgentSetup, running_agent
from agent_stock import ask, client_of
from smp.image_management import IMG_MGMT_ERR
from smpclient import SMPClient
from smpclient.generics import error
from smpclient.requests.image_management import ImageErase, ImageStatesRead, ImageStatesWrite
from update_images import BootState, Disk, hash_tlv, make_key, random_bytes, sign

OLD = random_bytes(5, 200_000)
NEW = random_bytes(6, 400_000)
STOP_AT = 300_000


class Images:
    """What these tests send."""

    def __init__(self, keys: Path) -> None:
        self.key = make_key(keys, "board")
        self.old = sign(OLD, self.key, version="0.1.0")
        self.new = sign(NEW, self.key)
        self.older = sign(NEW, self.key, version="0.0.9")
        self.wrong_key = sign(NEW, make_key(keys, "other"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return Images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def disk(tmp_path: Path, images: Images) -> Disk:
    return Disk(tmp_path).make(images.old, images.old)


def setup(disk: Disk, images: Images, running: str = "a") -> AgentSetup:
    return AgentSetup(
        image={"board": "qemu-virt", "engine": "none", "image": "", "variant": "plain"},
        options=disk.options(images.key, running),
    )


def folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


async def states(client: SMPClient) -> dict[int, set[str]]:
    """The flags that are set, by slot."""
    flags = ("active", "bootable", "confirmed", "pending", "permanent")
    answer = await ask(client, ImageStatesRead())
    return {image.slot: {f for f in flags if getattr(image, f)} for image in answer.images}


async def test_smpclient_uploads_tests_and_confirms(
    tmp_path: Path, disk: Disk, images: Images
) -> None:
    slot_a = disk.slots[0].read_bytes()
    with running_agent(folder(tmp_path, "agent"), setup(disk, images)) as peer:
        async with client_of(peer) as client:
            both = await states(client)
            assert both == {0: {"active", "bootable", "confirmed", "permanent"}, 1: {"bootable"}}
            offsets = [off async for off in client.upload(images.new, slot=1)]
            assert offsets[-1] == len(images.new)
            marked = await ask(client, ImageStatesWrite(hash=hash_tlv(images.new)))
            assert [image.version for image in marked.images] == ["0.1.0", "0.1.0+7"]
            assert (await states(client))[1] == {"bootable", "pending"}
    assert disk.slots[0].read_bytes() == slot_a
    assert disk.slots[1].read_bytes()[: len(images.new)] == images.new
    assert disk.state() == BootState(1, 3, 1, 0, 2)
    with running_agent(folder(tmp_path, "agent2"), setup(disk, images, "b")) as peer:
        async with client_of(peer) as client:
            assert (await states(client))[1] == {"active", "bootable"}
            await ask(client, ImageStatesWrite(hash=None, confirm=True))
            assert "confirmed" in (await states(client))[1]
    assert disk.state() == BootState(1, 0, 0, 1, 3)


async def test_a_broken_upload_is_gone_on_with(tmp_path: Path, disk: Disk, images: Images) -> None:
    """The client was killed, and the agent with it."""
    with running_agent(folder(tmp_path, "agent"), setup(disk, images)) as peer:
        async with client_of(peer) as client, aclosing(client.upload(images.new)) as upload:
            async for offset in upload:
                if offset > STOP_AT:
                    break
        peer.process.kill()
        peer.process.wait()
    with running_agent(folder(tmp_path, "agent2"), setup(disk, images)) as peer:
        async with client_of(peer) as client:
            assert set(await states(client)) == {0}
            offsets = [off async for off in client.upload(images.new)]
            assert offsets[0] == 256 << 10 and offsets[-1] == len(images.new)
            await ask(client, ImageStatesWrite(hash=hash_tlv(images.new)))


async def test_what_is_not_for_us_is_not_there_afterwards(
    tmp_path: Path, disk: Disk, images: Images
) -> None:
    with running_agent(folder(tmp_path, "agent"), setup(disk, images)) as peer:
        async with client_of(peer) as client:
            async for _ in client.upload(images.wrong_key):
                pass
            answer = await client.request(ImageStatesWrite(hash=hash_tlv(images.wrong_key)))
            assert error(answer) and answer.err.rc == IMG_MGMT_ERR.NO_IMAGE
            assert set(await states(client)) == {0}
            assert "not taken" in peer.error_text()
    assert disk.state() == BootState()


async def test_an_older_image_is_not_marked(tmp_path: Path, disk: Disk, images: Images) -> None:
    with running_agent(folder(tmp_path, "agent"), setup(disk, images)) as peer:
        async with client_of(peer) as client:
            async for _ in client.upload(images.older):
                pass
            answer = await client.request(ImageStatesWrite(hash=hash_tlv(images.older)))
            assert error(answer) and answer.err.rc == IMG_MGMT_ERR.CURRENT_VERSION_IS_NEWER
    assert disk.state() == BootState()


async def test_odd_requests_are_refused_by_code(tmp_path: Path, disk: Disk, images: Images) -> None:
    with running_agent(folder(tmp_path, "agent"), setup(disk, images)) as peer:
        async with client_of(peer) as client:
            for request, code in (
                (ImageErase(slot=0), IMG_MGMT_ERR.INVALID_SLOT),
                (ImageStatesWrite(hash=bytes(32)), IMG_MGMT_ERR.NO_IMAGE),
                (
                    ImageStatesWrite(hash=hash_tlv(images.old), confirm=True),
                    IMG_MGMT_ERR.IMAGE_CONFIRMATION_DENIED,
                ),
            ):
                answer = await client.request(request)
                assert error(answer) and answer.err.rc == code, answer
            await ask(client, ImageErase(slot=1))
            assert set(await states(client)) == {0}
            await ask(client, ImageErase())
    assert disk.slots[1].read_bytes()[:512] == bytes(512)


def smpmgr(peer: AgentPeer, *arguments: str) -> str:
    command = [sys.executable, "-m", "smpmgr", "--port", peer.port, "--timeout", "30", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.long
def test_smpmgr_uploads_an_image_and_marks_it(tmp_path: Path, disk: Disk, images: Images) -> None:
    file = tmp_path / "new.img"
    file.write_bytes(images.new)
    with running_agent(folder(tmp_path, "agent"), setup(disk, images)) as peer:
        fast = ("--line-length", "4096", "--line-buffers", "1")
        smpmgr(peer, *fast, "image", "upload", str(file))
        smpmgr(peer, "image", "state-write", hash_tlv(images.new).hex())
        assert "0.1.0+7" in smpmgr(peer, "image", "state-read")
    assert disk.state() == BootState(1, 3, 1, 0, 2)
