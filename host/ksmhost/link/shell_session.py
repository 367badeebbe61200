# SPDX-License-Identifier: Apache-2.0
"""A board session without an agent: through a login shell, on any Linux with KSM.

It types commands and reads their output from between markers, logs in where a login prompt
stands in the way, and logs in again when the board came back. Samples are taken by polling from
here, so what happens while the line is cut is not seen. Several sessions may share one shell: each
line is typed whole, and each knows its own markers.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import secrets
import shlex
import time
from collections import deque
from collections.abc import AsyncIterator

from ksmhost.errors import KsmhostError
from ksmhost.link.channel import Channel, ChannelSession
from ksmhost.link.console_watch import Prompt, find_prompt
from ksmhost.link.session import (
    BoardGoneError,
    BootState,
    ConsoleText,
    Identity,
    LineLostError,
    LinkState,
    NoAnswerError,
    RefusedError,
    SampleBatch,
    SampleRow,
    SamplingState,
    Slots,
    StaleSessionError,
    Timing,
    WorkloadInfo,
    WorkloadStatus,
)
from ksmhost.link.shell_scripts import (
    COUNTERS,
    Folders,
    functions,
    identity_lines,
    write_knob,
    write_knob_by_tee,
)
from ksmhost.link.shell_text import (
    Cutter,
    Output,
    build_id_of,
    parse_numbers,
    parse_pairs,
    wrap,
)
from ksmhost.link.streams import Fanout
from ksmhost.link.throttled import Throttled, firmware_answers

_TAIL_BYTES = 512
_RING = 8192
_TICK_MS = 10
_NOT_FOUND = 127
_LEAST_PERIOD_MS = 100
_FIRMWARE_S = 1.0
"""Between two questions to the firmware: each takes the board two processes."""
_FIRMWARE_TRIES = 3
"""After so many without an answer there is nobody to ask: a kernel message may spoil one."""
_MOST_DROPPED = 20
"""After so many samples in a row that lack a counter, the board has that counter no more."""
_KPTI = {"Mitigation: PTI": "on", "Vulnerable": "off"}
"""What the kernel says of meltdown. "Not affected" leaves it open: KASLR may turn it on, too."""
_GROUPS = ("ksm", "ksmd", "vm", "board")
_PASSWORD = re.compile(rb"[Pp]assword: *\Z")
_WRONG = re.compile(rb"Login incorrect|Authentication failure")


class ShellSession(ChannelSession):
    """`ksmhost.link.session.BoardSession` over a shell. `log_in` first."""

    agentless = True

    def __init__(
        self,
        channel: Channel,
        timing: Timing,
        *,
        user: str | None = None,
        password: str | None = None,
        folders: Folders | None = None,
    ) -> None:
        super().__init__(channel)
        self._timing = timing
        self._user = user
        self._password = password
        self._folders = folders or Folders()
        self._nonce = secrets.token_hex(3)
        self._count = 0
        self._typing = asyncio.Lock()
        self._cutter: Cutter | None = None
        self._arrived = asyncio.Event()
        self._tail = b""
        self._prompt = b""
        self._typed = b""
        self._boots = False
        self._defined: set[str] = set()
        self._console: Fanout[ConsoleText] = Fanout()
        self._tasks = [asyncio.create_task(self._listen(channel.console()), name="shell-listen")]
        self._sampler: asyncio.Task[None] | None = None
        self._sampling = SamplingState(0, 0, 0, 0, ())
        self._ring: deque[SampleRow] = deque(maxlen=_RING)
        self._dropped = 0
        self._throttled = Throttled()
        self._firmware: dict[str, int] = {}
        self._firmware_at_s = float("-inf")
        self._firmware_silent = 0

    # Getting to a shell

    async def log_in(self) -> None:
        """Get to a shell prompt, through a login if need be. Raises KsmhostError if none comes."""
        async with self._typing:
            await self._usable()
            await self._log_in()

    async def _log_in(self) -> None:
        deadline = time.monotonic() + (self._timing.boot_s if self._boots else self._timing.open_s)
        self._defined.clear()
        self._boots = False
        while time.monotonic() < deadline:
            if await self._try("stty -echo 2>/dev/null;:", self._timing.answer_s):
                await self._learn_prompt()
                return
            if find_prompt(self._tail) is Prompt.LOGIN:
                await self._answer_login()
        raise self._no_shell()

    async def _answer_login(self) -> None:
        """Answer a login prompt; what was typed at it so far has spoilt this attempt."""
        if self._user is None:
            raise NoAnswerError(
                f"{self.where}: a login prompt asks for a user.",
                todo="Give --user (and --password).",
            )
        if _PASSWORD.search(self._tail):
            await self._type(b"\n")
            await self._wait_for(re.compile(rb"login: *\Z"))
        self._tail = b""
        await self._type(self._user.encode() + b"\n")
        if await self._wait_for(re.compile(rb"[Pp]assword: *\Z|[#$] \Z|Login incorrect")):
            await self._answer_password()

    async def _answer_password(self) -> None:
        if not _PASSWORD.search(self._tail):
            return
        self._tail = b""
        await self._type((self._password or "").encode() + b"\n")
        await self._wait_for(re.compile(rb"[#$>%] \Z|Login incorrect"))
        if _WRONG.search(self._tail):
            raise RefusedError(
                f"{self.where}: the board refused the login of {self._user}.",
                todo="Check --user and --password.",
            )

    async def _wait_for(self, pattern: re.Pattern[bytes]) -> bool:
        """Wait until the console ends like `pattern`; False if it does not in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timing.answer_s * 2):
                while not pattern.search(self._tail):
                    self._arrived.clear()
                    await self._arrived.wait()
                return True
        return False

    async def _learn_prompt(self) -> None:
        """What follows a command's end is the prompt: remember it, to leave it out later."""
        self._prompt = b""
        self._tail = b""
        await self._try(":", self._timing.answer_s)
        await asyncio.sleep(self._timing.quiet_s)
        last = self._tail.rsplit(b"\n", 1)[-1]
        self._prompt = last if 0 < len(last) < 80 else b""

    def _no_shell(self) -> NoAnswerError:
        if not self._tail:
            means, todo = "Not one byte arrives.", "Check power, wires and the port's name."
        else:
            means = "Bytes arrive, but no shell runs what is typed."
            todo = "Look at its console; check --baud, or leave --agentless away."
        return NoAnswerError(f"{self.where}: no shell answers.", means=means, todo=todo)

    # Running commands

    async def _usable(self) -> None:
        """Wait until the line is there and no boot loader listens. KsmhostError if that's never."""
        started = time.monotonic()
        while self.state is not LinkState.CONNECTED:
            if self.state in (LinkState.DIED, LinkState.ENDED):
                raise BoardGoneError(f"{self.where}: the board has died.", todo="Start it again.")
            booting = self.state is LinkState.BOOTING
            self._boots = self._boots or booting
            if time.monotonic() - started > (
                self._timing.boot_s if booting else self._timing.back_s
            ):
                raise LineLostError(f"{self.where}: the line is lost.", todo="Put the cable back.")
            await asyncio.sleep(self._timing.reopen_s)

    async def _run(self, script: str) -> Output:
        """Run one command. Logs in again if the shell is gone. KsmhostError if that fails too."""
        async with self._typing:
            await self._usable()
            output = await self._try(script, self._timing.command_s)
            if output is None:
                await self._usable()
                await self._log_in()
                output = await self._try(script, self._timing.command_s)
        if output is None:
            raise NoAnswerError(
                f"{self.where}: the shell does not finish a command.",
                means="It may be busy with another one.",
                todo="Look at its console.",
            )
        return output

    async def _try(self, script: str, patience_s: float) -> Output | None:
        """Type a command; return its output, or None if its end does not come in time."""
        self._count += 1
        token = f"{self._nonce}{self._count:x}"
        cutter = self._cutter = Cutter(token)
        try:
            async with asyncio.timeout(patience_s):
                await self._type(wrap(script, token))
                while cutter.output is None:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            return None
        finally:
            self._cutter = None
        return cutter.output

    async def _call(self, *names: str) -> str:
        """Run functions of ours, defining them where the shell does not know them."""
        known = functions(self._folders)
        for name in names:
            if name not in self._defined:
                await self._run(known[name])
                self._defined.add(name)
        output = await self._run(";".join(names))
        if output.status == _NOT_FOUND:
            self._defined.clear()
            raise NoAnswerError(f"{self.where}: the shell was replaced.", todo="Try again.")
        return output.text

    async def _type(self, data: bytes) -> None:
        await self._channel.console_write(data)

    async def _listen(self, console: AsyncIterator[ConsoleText]) -> None:
        async for text in console:
            rest = text.data if self._cutter is None else self._feed(self._cutter, text.data)
            self._tail = (self._tail + rest)[-_TAIL_BYTES:]
            if rest and rest != self._prompt:
                self._console.publish(ConsoleText(text.time_s, rest))
            self._arrived.set()
        self._console.close()

    def _feed(self, cutter: Cutter, data: bytes) -> bytes:
        done = cutter.output is not None
        rest = cutter.feed(data)
        if not done and cutter.output is not None and self._prompt:
            rest = rest.removesuffix(self._prompt)
        return rest

    # What a session offers

    async def identity(self) -> Identity:
        """Gather who the board is from procfs and sysfs."""
        facts: dict[str, str] = {}
        for line in identity_lines(self._folders):
            facts.update(parse_pairs((await self._run(line)).text))
        return Identity(
            model=facts.get("model", "").rstrip("\0\ufffd"),
            build_id=build_id_of(facts.get("notes", "")),
            kernel=facts.get("kernel", ""),
            engine=facts.get("engine", "none"),
            boot_id=facts.get("boot_id", ""),
            page_size_bytes=_number(facts.get("page_size", "")),
            cpus=_number(facts.get("cpus", "")),
            mem_bytes=_number(facts.get("mem_kib", "")) * 1024,
            uptime_ms=_decimal(facts.get("uptime", ""), 1000),
            governor=facts.get("governor", ""),
            kpti=_KPTI.get(facts.get("meltdown", ""), ""),
            revision=revision_of(facts.get("revision", "")),
        )

    async def groups(self) -> tuple[str, ...]:
        """The groups that can be had without an agent."""
        return _GROUPS

    async def counters(self, group: str) -> dict[str, int]:
        """One group's counters."""
        match group:
            case "ksm":
                return ksm_counters(await self._call("_kf"))
            case "ksmd":
                return ksmd_counters(await self._call("_kd"))
            case "vm":
                return parse_numbers(await self._call("_km", "_kv"))
            case "board":
                counted = board_counters(await self._call("_kb"))
                return counted | await self._climate()
        raise RefusedError(f"There are no counters '{group}' here.", errno=errno.ENOENT)

    async def knobs(self) -> dict[str, str]:
        """All files of the KSM directory that are not counters."""
        files = parse_pairs(await self._call("_kf"))
        return {name: text for name, text in files.items() if name not in COUNTERS}

    async def knob(self, name: str) -> str:
        """One knob."""
        knobs = await self.knobs()
        if name not in knobs:
            raise _refused(f"read the knob '{name}'", errno.ENOENT)
        return knobs[name]

    async def set_knob(self, name: str, value: str) -> None:
        """Write a knob; the kernel's errno is read from the shell's message."""
        doing = f"set {name} to {value}"
        if not re.fullmatch(r"[a-z0-9_]+", name):
            raise _refused(doing, errno.ENOENT)
        if not value.isprintable():
            raise _refused(doing, errno.EINVAL)
        reason = 0
        for way in (write_knob, write_knob_by_tee):
            output = await self._run(way(self._folders, name, shlex.quote(value)))
            reason = errno_in(output.text) if output.status else 0
            if reason != errno.EIO:
                break
        if not reason and not took(await self.knob(name), value):
            reason = errno.EINVAL  # a shell that does not tell of failed writes
        if reason:
            raise _refused(doing, reason)

    async def sampling(self) -> SamplingState:
        """This session's own sampling."""
        first = self._ring[0].seq if self._ring else self._sampling.next
        state = self._sampling
        return SamplingState(state.session, state.period_ms, first, state.next, state.names)

    async def sampling_start(self, period_ms: int) -> SamplingState:
        """Poll the board from here on, as often as asked but no more often than a shell can."""
        await self.sampling_stop()
        period_ms = max(period_ms, _LEAST_PERIOD_MS)
        first = await self._sample()
        self._begin(period_ms, first)
        self._sampler = asyncio.create_task(self._poll(period_ms / 1000), name="shell-sampler")
        return self._sampling

    def _begin(self, period_ms: int, first: dict[str, int]) -> None:
        self._ring.clear()
        self._dropped = 0
        self._sampling = SamplingState(secrets.randbits(32), period_ms, 0, 0, tuple(first))

    async def sampling_stop(self) -> SamplingState:
        """Stop polling."""
        if self._sampler is not None:
            self._sampler.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sampler
            self._sampler = None
        state = self._sampling
        self._sampling = SamplingState(state.session, 0, state.first, state.next, state.names)
        return await self.sampling()

    async def samples(self, session: int, seq: int, max_rows: int = 0) -> SampleBatch:
        """What was polled since `seq`."""
        if session != self._sampling.session:
            raise StaleSessionError("That sampling session is over.", errno=errno.ESTALE)
        rows = tuple(row for row in self._ring if row.seq >= seq)[: max_rows or None]
        first = rows[0].seq if rows else max(seq, self._sampling.next)
        return SampleBatch(session, first, self._sampling.next, rows)

    async def workloads(self) -> tuple[WorkloadInfo, ...]:
        """None: workloads belong to the agent."""
        return ()

    async def workload_start(
        self, name: str, processes: int | None = None, seed: int | None = None
    ) -> None:
        """Refused: there is no agent."""
        raise _no_workloads()

    async def workload_stop(self, name: str | None = None) -> None:
        """Refused: there is no agent."""
        raise _no_workloads()

    async def workload_status(self, name: str) -> WorkloadStatus:
        """Refused: there is no agent."""
        raise _no_workloads()

    async def slots(self) -> Slots:
        """Refused: there is no agent."""
        raise _no_updates()

    async def update_index(self, first: int, hashes: bytes) -> tuple[int, ...]:
        """Refused: there is no agent."""
        raise _no_updates()

    async def update_begin(
        self, stream_sha: bytes, stream_size: int, image_sha: bytes, image_size: int
    ) -> int:
        """Refused: there is no agent."""
        raise _no_updates()

    async def update_put(self, off: int, data: bytes) -> int:
        """Refused: there is no agent."""
        raise _no_updates()

    async def update_finish(self, image_sha: bytes) -> None:
        """Refused: there is no agent."""
        raise _no_updates()

    async def activate(
        self, mode: str, tries: int | None = None, *, downgrade: bool = False
    ) -> BootState:
        """Refused: there is no agent."""
        raise _no_updates()

    async def reset(self) -> None:
        """Type `reboot`."""
        async with self._typing:
            await self._type(b"reboot || /sbin/reboot -f\n")

    def console(self) -> AsyncIterator[ConsoleText]:
        """Console text from now on, without what this session types and reads."""
        return self._console.stream()

    async def console_write(self, data: bytes) -> None:
        """Type whole lines, between our own."""
        self._typed += data.replace(b"\r", b"\n")
        while b"\n" in self._typed:
            line, _, self._typed = self._typed.partition(b"\n")
            async with self._typing:
                await self._type(line + b"\n")

    async def close(self) -> None:
        """Give the shell back as it was, and let go of the board."""
        await self.sampling_stop()
        if self._tasks and self._prompt and self.state is LinkState.CONNECTED:
            with contextlib.suppress(KsmhostError):
                await self._type(b"stty echo 2>/dev/null\n")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        self._console.close()
        await self._channel.close()

    # Polling

    async def _poll(self, period_s: float) -> None:
        while True:
            started = time.monotonic()
            with contextlib.suppress(KsmhostError):  # a gap; the state tells why
                self._keep(await self._sample())
            await asyncio.sleep(max(0.0, started + period_s - time.monotonic()))

    def _keep(self, values: dict[str, int]) -> None:
        state = self._sampling
        if not set(state.names) <= values.keys():  # a kernel message hit the middle of a line
            self._dropped += 1
            if self._dropped >= _MOST_DROPPED:
                self._begin(state.period_ms, values)
            return
        self._dropped = 0
        row = tuple(values[name] for name in state.names)
        self._ring.append(SampleRow(state.next, time.monotonic_ns() // 1000, row))
        self._sampling = SamplingState(
            state.session, state.period_ms, 0, state.next + 1, state.names
        )

    async def _sample(self) -> dict[str, int]:
        text = await self._call("_kf", "_kd", "_km")
        groups = {"ksm": ksm_counters(text), "ksmd": ksmd_counters(text)}
        memory = parse_numbers(text)
        groups["vm"] = {key: value for key, value in memory.items() if key.endswith("_kib")}
        groups["board"] = await self._climate()
        return {
            f"{group}.{name}": value for group in groups for name, value in groups[group].items()
        }

    async def _climate(self) -> dict[str, int]:
        """What decides how fast the board is, as far as it tells."""
        if (
            self._firmware_silent < _FIRMWARE_TRIES
            and time.monotonic() >= self._firmware_at_s + _FIRMWARE_S
        ):
            self._firmware = await self._ask_firmware()
        return climate_counters(await self._call("_kc")) | self._firmware

    async def _ask_firmware(self) -> dict[str, int]:
        word, clock_khz = firmware_answers(await self._call("_kt"))
        if word is None:
            self._firmware_silent += 1
            return {}
        self._firmware_silent = 0
        self._firmware_at_s = time.monotonic()
        self._throttled.feed(word)
        clock = {} if clock_khz is None else {"cpu_measured_khz": clock_khz}
        return self._throttled.counters | clock


def climate_counters(text: str) -> dict[str, int]:
    """Temperature and clock in the output of `_kc`."""
    held = parse_numbers(text)
    return {name: held[name] for name in ("temperature_mc", "cpu_khz") if name in held}


def revision_of(dump: str) -> int:
    """A board's revision code in the hex dump of its device tree's cell; 0 if there is none.

    >>> hex(revision_of("00 c0 31 12"))
    '0xc03112'
    """
    return int(dump.replace(" ", ""), 16) if re.fullmatch(r"([0-9a-f]{2} ?){4}", dump) else 0


def ksm_counters(text: str) -> dict[str, int]:
    """The KSM directory's counters in the output of `_kf`."""
    return {name: value for name, value in parse_numbers(text).items() if name in COUNTERS}


def ksmd_counters(text: str) -> dict[str, int]:
    """ksmd's CPU time in the output of `_kd`: utime and stime, in ticks of 10 ms."""
    stat = parse_pairs(text).get("stat", "")
    fields = stat.rpartition(")")[2].split()
    if len(fields) < 13 or not (fields[11] + fields[12]).isdigit():
        return {}
    return {"cpu_ms": (int(fields[11]) + int(fields[12])) * _TICK_MS}


def board_counters(text: str) -> dict[str, int]:
    """Uptime, load and CPU time in the output of `_kb`."""
    pairs = parse_pairs(text)
    ticks = [int(word) for word in pairs.get("cpu", "").split() if word.isdigit()]
    idle = sum(ticks[3:5])
    return {
        "uptime_ms": _decimal(pairs.get("uptime", ""), 1000),
        "load1_milli": _decimal(pairs.get("load", ""), 1000),
        "cpu_ms": (sum(ticks[:8]) - idle) * _TICK_MS,
        "cpu_idle_ms": idle * _TICK_MS,
    }


def took(text: str, value: str) -> bool:
    """True if a knob that reads `text` holds `value`; of a choice, the one in brackets counts."""
    chosen = re.search(r"\[(.*?)\]", text)
    held = chosen[1] if chosen else text
    same_number = held.isdigit() and value.strip().isdigit() and int(held) == int(value)
    return held == value.strip() or same_number


def errno_in(text: str) -> int:
    """The errno whose words are in a shell's message; EIO if it says no more."""
    for number in sorted(errno.errorcode, reverse=True):
        if os.strerror(number) in text:
            return number
    return errno.EIO


def _refused(doing: str, number: int) -> RefusedError:
    todo = "Log in as root." if number in (errno.EACCES, errno.EPERM) else ""
    return RefusedError(
        f"The board refused to {doing}: {os.strerror(number)}.", errno=number, todo=todo
    )


def _no_workloads() -> RefusedError:
    return RefusedError(
        "Workloads need the agent, and this session has none.",
        errno=errno.EOPNOTSUPP,
        todo="Use an image of this project, or install its agent.",
    )


def _no_updates() -> RefusedError:
    return RefusedError(
        "Updates need the agent, and this session has none.",
        errno=errno.EOPNOTSUPP,
        todo="Write the board's SD card, or start an image of this project.",
    )


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _decimal(text: str, scale: int) -> int:
    try:
        return round(float(text) * scale)
    except ValueError:
        return 0
