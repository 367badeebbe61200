# SPDX-License-Identifier: Apache-2.0
"""The agent against SMP clients nobody here wrote: smpclient's own classes and the smpmgr CLI."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import cbor2
import pytest
from agent_messages import (
    Identity,
    Knobs,
    Samples,
    SamplingRead,
    SamplingWrite,
    Workloads,
)
from agent_peer import COUNTERS, KNOBS, AgentPeer, AgentSetup, running_agent
from agent_stock import ask, client_of
from smp.error import MGMT_ERR
from smp.header import Version
from smp.statistics_management import STAT_MGMT_ERR
from smpclient import SMPClient
from smpclient.exceptions import SMPValidationException
from smpclient.generics import error_v1, error_v2, success
from smpclient.requests.os_management import (
    EchoWrite,
    MCUMgrParametersRead,
    OSApplicationInfoRead,
    ResetWrite,
)
from smpclient.requests.settings_management import ReadSetting, WriteSetting
from smpclient.requests.shell_management import Execute
from smpclient.requests.statistics_management import GroupData, ListOfGroups

RESET_EXIT_CODE = 4


async def test_echo_fills_the_whole_buffer_both_ways(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer:
        async with client_of(peer) as client:
            params = await ask(client, MCUMgrParametersRead())
            assert params.buf_size == 4096
            for length in (0, 1, 88, 89, 90, 1000, 4092 - 8 - 6):
                text = ("0123456789" * 410)[:length]
                assert (await ask(client, EchoWrite(d=text))).r == text


async def test_system_info_in_the_order_of_the_specification(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer:
        async with client_of(peer) as client:
            assert (await ask(client, OSApplicationInfoRead())).output == "Linux"
            mixed = (await ask(client, OSApplicationInfoRead(format="ms"))).output
            assert mixed.split()[0] == "Linux"
            everything = (await ask(client, OSApplicationInfoRead(format="a"))).output
            assert everything.endswith("Linux")
            refused = await client.request(OSApplicationInfoRead(format="z"))
            assert error_v2(refused) and refused.err.rc == 2


async def test_statistics_are_the_counter_files(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer:
        async with client_of(peer) as client:
            groups = (await ask(client, ListOfGroups())).stat_list
            assert {"ksm", "vm", "board", "link", "workload"} <= set(groups)
            for group in groups:
                fields = (await ask(client, GroupData(name=group))).fields
                assert fields and all(isinstance(value, int) for value in fields.values())
            assert (await ask(client, GroupData(name="ksm"))).fields == dict(COUNTERS)
            (peer.ksm_dir / "pages_sharing").write_text("4711\n")
            assert (await ask(client, GroupData(name="ksm"))).fields["pages_sharing"] == 4711
            refused = await client.request(GroupData(name="nothing"))
            assert error_v2(refused) and refused.err.rc == STAT_MGMT_ERR.ERR_INVALID_GROUP


async def test_settings_are_the_knob_files(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer:
        async with client_of(peer) as client:
            for name, text in KNOBS.items():
                assert (await ask(client, ReadSetting(name=name))).val == text.encode()
            await ask(client, WriteSetting(name="pages_to_scan", val=b"5"))
            assert (peer.ksm_dir / "pages_to_scan").read_text() == "5\n"
            knobs = (await ask(client, Knobs())).knobs
            assert knobs == {**KNOBS, "pages_to_scan": "5"}


@pytest.mark.parametrize(
    "name", ["nope", "../ksm/run", "/etc/passwd", "..", "", "run\0", "x" * 200, "RUN"]
)
async def test_no_name_leads_out_of_the_directory(tmp_path: Path, name: str) -> None:
    with running_agent(tmp_path) as peer:
        async with client_of(peer) as client:
            await assert_errno(client, "read", name, 2)
            await assert_errno(client, "write", name, 2)


async def assert_errno(client: SMPClient, how: str, name: str, errno: int) -> None:
    """The stock settings classes know only their own group's codes: look at the bytes."""
    request = ReadSetting(name=name) if how == "read" else WriteSetting(name=name, val=b"1")
    frame = await asyncio.wait_for(client._transport.send_and_receive(request.BYTES), 5)
    assert cbor2.loads(frame[8:]) == {"err": {"group": 64, "rc": errno}}


async def test_refusals_carry_errno(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer:
        (peer.ksm_dir / "directory").mkdir()
        (peer.ksm_dir / "link").symlink_to("/etc/passwd")
        async with client_of(peer) as client:
            await assert_errno(client, "write", "full_scans", 13)  # EACCES: a counter
            await assert_errno(client, "read", "directory", 2)
            await assert_errno(client, "read", "link", 40)  # ELOOP: links are not followed
            await assert_errno(client, "write", "link", 40)
            long = WriteSetting(name="run", val=b"1" * 300)
            frame = await client._transport.send_and_receive(long.BYTES)
            assert cbor2.loads(frame[8:]) == {"err": {"group": 64, "rc": 22}}


async def test_stock_settings_classes_and_group_64_codes(tmp_path: Path) -> None:
    """A version 1 request gets an error any client knows; in version 2 it must know group 64."""
    with running_agent(tmp_path) as peer:
        async with client_of(peer) as client:
            v1 = await client.request(ReadSetting(name="nope", version=Version.V1))
            assert error_v1(v1) and v1.rc == MGMT_ERR.ENOENT
            denied = await client.request(
                WriteSetting(name="full_scans", val=b"1", version=Version.V1)
            )
            assert error_v1(denied) and denied.rc == MGMT_ERR.EACCESSDENIED
            with pytest.raises(SMPValidationException):
                await client.request(WriteSetting(name="full_scans", val=b"1"))
            custom = await client.request(Samples(session=1, seq=0))
            assert error_v2(custom) and custom.err.group == 64 and custom.err.rc == 116


async def test_identity(tmp_path: Path) -> None:
    image = {"board": "qemu-virt", "engine": "ksmhost", "image": "abc123", "variant": "debug"}
    with running_agent(tmp_path, AgentSetup(image=image)) as peer:
        async with client_of(peer) as client:
            who = await ask(client, Identity())
    assert (who.board, who.engine, who.image, who.variant) == tuple(image.values())
    assert who.protocol == 2 and who.page_size_bytes == 4096 and who.cpus >= 1
    assert who.kernel and who.mem_bytes > 1 << 20 and len(who.boot_id) == 36


async def test_identity_without_an_image_guesses_the_engine(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer:
        async with client_of(peer) as client:
            who = await ask(client, Identity())
    assert (who.board, who.engine, who.image, who.variant) == ("", "mainline", "", "")


async def test_shell_group_only_when_switched_on(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer:
        async with client_of(peer) as client:
            refused = await client.request(Execute(argv=["true"]))
            assert error_v1(refused) and refused.rc == MGMT_ERR.ENOTSUP


async def test_shell_group_runs_commands_within_limits(tmp_path: Path) -> None:
    setup = AgentSetup(shell="/bin/sh", options=["--shell-group"])
    with running_agent(tmp_path, setup) as peer:
        async with client_of(peer) as client:
            said = await ask(client, Execute(argv=["echo", "a  b", "$HOME"]))
            assert (said.o, said.ret) == ("a  b $HOME\n", 0)
            failed = await ask(client, Execute(argv=["sh", "-c", "echo bad >&2; exit 7"]))
            assert (failed.o, failed.ret) == ("bad\n", 7)
            much = await ask(client, Execute(argv=["sh", "-c", "yes | head -c 100000"]))
            assert len(much.o) == 3072 and much.ret == 0
            odd = await ask(client, Execute(argv=["printf", "\\377\\006\\011x"]))
            assert odd.o == "?\x06\tx"


@pytest.mark.long
async def test_shell_group_ends_a_command_that_takes_too_long(tmp_path: Path) -> None:
    setup = AgentSetup(shell="/bin/sh", options=["--shell-group"])
    with running_agent(tmp_path, setup) as peer:
        async with client_of(peer) as client:
            slow = await client.request(Execute(argv=["sleep", "60"]), timeout_s=30)
            assert success(slow) and slow.ret == -110
            assert (await ask(client, EchoWrite(d="alive"))).r == "alive"


async def test_reset_is_answered_before_it_is_done(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer:
        async with client_of(peer) as client:
            await ask(client, ResetWrite())
            assert peer.process.wait(30) == RESET_EXIT_CODE


async def test_sampling_by_stock_classes(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer:
        async with client_of(peer) as client:
            assert (await ask(client, SamplingRead())).period_ms == 0
            started = await ask(client, SamplingWrite(period_ms=10))
            await asyncio.sleep(0.3)
            batch = await ask(client, Samples(session=started.session, seq=0))
            assert batch.seq == 0 and len(batch.rows) >= 10
            assert len(batch.rows[0]) == len(started.names) + 1
            assert (await ask(client, Workloads())).workloads == ()


def smpmgr(peer: AgentPeer, *arguments: str) -> str:
    command = [sys.executable, "-m", "smpmgr", "--port", peer.port, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.long
def test_smpmgr_reads_statistics_and_runs_commands(tmp_path: Path) -> None:
    setup = AgentSetup(shell="/bin/sh", options=["--shell-group"])
    with running_agent(tmp_path, setup) as peer:
        assert "'pages_sharing': 90" in smpmgr(peer, "statistics", "get", "ksm")
        assert "general_profit" in smpmgr(peer, "statistics", "fetch-all")
        assert "hello" in smpmgr(peer, "shell", "echo hello")
