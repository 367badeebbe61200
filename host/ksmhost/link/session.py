# SPDX-License-Identifier: Apache-2.0
"""What a board is to the rest of ksmhost: one session interface, whatever stands behind it.

Everything above the link (samples, monitor, verbs) uses a `BoardSession` and nothing else. Two
implementations exist: `ksmhost.link.smp_session.SmpSession` talks to the board agent, and
`ksmhost.link.shell_session.ShellSession` reads the same figures through a login shell on a board
without the agent. This module holds the interface and its typed values; it imports no transport.

All methods raise `ksmhost.errors.KsmhostError` and nothing else for causes outside the program
(`NoAnswerError`, `LineLostError` and `RefusedError` below are its shapes worth catching). All can
be cancelled.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from ksmhost.errors import ExitCode, KsmhostError


class NoAnswerError(KsmhostError):
    """The line is open, but what was asked got no answer in time."""

    def __init__(self, what: str, *, means: str = "", todo: str = "") -> None:
        super().__init__(what, means=means, todo=todo, code=ExitCode.NO_ANSWER)


class OtherVersionError(NoAnswerError):
    """There is an answer that cannot be understood: asking again does not help."""


class LineLostError(KsmhostError):
    """The line went away and did not come back within `Timing.back_s`."""

    def __init__(self, what: str, *, means: str = "", todo: str = "") -> None:
        super().__init__(what, means=means, todo=todo, code=ExitCode.LINE_LOST)


class BoardGoneError(KsmhostError):
    """The board panicked or its emulator ended; it will not answer any more."""

    def __init__(self, what: str, *, means: str = "", todo: str = "") -> None:
        super().__init__(what, means=means, todo=todo, code=ExitCode.BOARD_DIED)


class RefusedError(KsmhostError):
    """The board or its kernel refused a request; `errno` is the kernel's reason (0 if unknown)."""

    def __init__(self, what: str, *, errno: int = 0, means: str = "", todo: str = "") -> None:
        super().__init__(what, means=means, todo=todo, code=ExitCode.REFUSED)
        self.errno = errno


@dataclass(frozen=True, slots=True)
class Where:
    """Which board is meant, as the user said it. All empty: the one running board.

    `board` is the name of a board folder (and of a running emulator), `port` a device or a URL as
    pyserial takes them (`/dev/ttyUSB0`, `rfc2217://host:port`, `socket://host:port`), or a place of
    a lab (`labgrid://place`, docs/LAB.md).
    """

    board: str | None = None
    port: str | None = None
    emulate: bool = False
    """Start (or join) the board's emulator instead of opening a port."""
    agentless: bool = False
    """Use a login shell instead of the agent."""
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    baud: int | None = None
    """Overrides the board's baud rate (115200 when no board is named either)."""
    engine: str | None = None
    variant: str | None = None
    direct: bool = False
    """Emulator only: start the kernel without the boot loader, where the board can."""
    disk: Path | None = None
    """Emulator only: a disk that keeps what is written; without it, a throw-away snapshot."""
    model: str | None = None
    """Emulator only: which of the models that the board's image serves; the first without it."""
    project: Path | None = None
    """The source tree that holds `boards/`; found from the current directory when absent."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Every wait of the link, in seconds. Tests shorten them; nothing else hard-codes a time."""

    answer_s: float = 1.5
    """How long one request waits for its answer before it is sent again."""
    piece_s: float = 0.4
    """The same for a short piece of a transfer, as a line that loses many wants them."""
    tries: int = 3
    """How often a request is sent before `NoAnswerError`."""
    open_s: float = 8.0
    """How long `open_session` waits for a first answer on a port."""
    boot_s: float = 180.0
    """The same for an emulator just started, and for a board seen booting: an emulated Pi takes
    20 s of a quiet machine, several times as long of a busy one."""
    back_s: float = 30.0
    """How long a request waits for a lost line to come back before `LineLostError`."""
    reopen_s: float = 0.25
    """Pause between attempts to open a port that went away."""
    probe_s: float = 0.2
    """Pause between questions to a board that should be up any moment."""
    probe_max_s: float = 4.0
    """The longest such pause, towards a board that stays silent."""
    boot_hold_s: float = 20.0
    """After a reset nothing is sent until a kernel starts, or all has been quiet for this long."""
    loader_hold_s: float = 45.0
    """The same once the boot loader has spoken: it is silent while it reads a slot, which takes
    half a minute from an emulated SD card."""
    kernel_hold_s: float = 3.0
    """The same once a kernel has started, which usually ends with the agent's first words."""
    quiet_s: float = 0.3
    """Text that stops for this long is complete (a prompt, the end of a panic)."""
    verify_s: float = 300.0
    """How long the board may take to read a slot through: half a minute for 40 MiB from an
    emulated SD card."""
    command_s: float = 10.0
    """How long one command of an agentless session may take, and what is typed to be taken."""
    spawn_s: float = 15.0
    """How long a broker or an emulator may take to be there."""
    linger_s: float = 2.0
    """How long a broker stays after its last client left."""
    baud_test_s: float = 2.0
    """How long a board stays at a new rate at which it hears nothing."""
    baud_settle_s: float = 0.05
    """What a board may need to switch once its answer is out."""
    baud_silence_s: float = 5.0
    """After so much silence a board goes back to its own rate; less than `open_s`, so that what
    waits for it then still does."""
    baud_keep_s: float = 3.0
    """At another rate the board hears from us this often, whatever else there is to say."""
    stop_s: float = 3.0
    """How long a process gets to end when asked, before it is killed."""


class LinkState(Enum):
    """What is known of the line and of what is at its other end."""

    CONNECTING = "connecting"
    """Nothing has answered yet."""
    CONNECTED = "connected"
    """The agent (or the shell) answers."""
    SILENT = "silent"
    """The line is there, but questions stay without an answer."""
    BOOTING = "booting"
    """The board is in its boot loader or kernel start; requests wait."""
    LOST = "lost"
    """The cable was pulled, the port vanished, the connection broke; it is being reopened."""
    DIED = "died"
    """The kernel panicked. The state changes again if something resets the board."""
    ENDED = "ended"
    """Over for good: the emulator ended or the broker was stopped."""


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The link went from one state to another; `reason` is one line for the user."""

    time_s: float
    """Host wall clock, seconds since 1970."""
    state: LinkState
    reason: str = ""
    gap_s: float = 0.0
    """On a return to CONNECTED: how long the link was not usable."""


@dataclass(frozen=True, slots=True)
class BoardRebooted:
    """The board answers again, with another boot id: counters and samples start anew."""

    time_s: float
    old_boot_id: str
    new_boot_id: str


@dataclass(frozen=True, slots=True)
class BoardDied:
    """The kernel panicked; `lines` is what it said, with some lines from before."""

    time_s: float
    lines: tuple[str, ...]


LinkEvent = StateChanged | BoardRebooted | BoardDied


@dataclass(frozen=True, slots=True)
class ConsoleText:
    """A piece of console output, as it arrived (not split into lines, not decoded)."""

    time_s: float
    data: bytes


@dataclass(frozen=True, slots=True)
class Identity:
    """Who answers: board, kernel, engine and image. Unknown texts are "", unknown numbers 0."""

    agent: str = ""
    """The agent's version; "" on an agentless session."""
    protocol: int = 0
    """The version of the agent's own group; 0 on an agentless session."""
    board: str = ""
    model: str = ""
    serial: str = ""
    build_id: str = ""
    """The running kernel's GNU build-id, in hex."""
    kernel: str = ""
    """The kernel's release, as `uname -r` has it."""
    engine: str = ""
    """Which KSM the kernel holds: "ksmhost", "mainline", or "none"."""
    image: str = ""
    """The git revision the image was built from."""
    variant: str = ""
    boot_id: str = ""
    page_size_bytes: int = 0
    cpus: int = 0
    mem_bytes: int = 0
    uptime_ms: int = 0
    governor: str = ""
    """What sets the clock of the first core: "performance", "schedutil" and so on."""
    kpti: str = ""
    """Whether the kernel has page tables of its own: "on", "off"."""
    kaslr: str = ""
    """Whether the kernel lies at an address that nobody knows beforehand: "on", "off"."""
    revision: int = 0
    """The board's revision code, as its maker numbers them."""
    firmware_s: int = 0
    """When the board's firmware was built, as Unix time."""


@dataclass(frozen=True, slots=True)
class SamplingState:
    """The one sampling session a board can run, and what its ring still holds.

    The ring holds the samples `first` to `next - 1`; `names` are the columns ("ksm.pages_sharing").
    `period_ms` is 0 when nothing is being sampled.
    """

    session: int
    period_ms: int
    first: int
    next: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SampleRow:
    """All counters at one instant of the board's monotonic clock, in the order of the names."""

    seq: int
    time_us: int
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SampleBatch:
    """Consecutive samples. If `seq` is greater than what was asked, the ring lost those between."""

    session: int
    seq: int
    """The first row's sequence number (what the first row would have, when there is none)."""
    next: int
    """The number the board's next sample will get: how far there is to read."""
    rows: tuple[SampleRow, ...]


@dataclass(frozen=True, slots=True)
class WorkloadInfo:
    """A workload the board's image holds."""

    name: str
    kind: str
    """"synthetic" or "program"."""
    processes: int
    """How many processes it starts unless told otherwise."""
    running: int
    about: str


@dataclass(frozen=True, slots=True)
class WorkloadStatus:
    """How a workload does. Pages and profit are sums over its processes."""

    name: str
    running: int
    started: int
    exited: int
    last_status: int
    uptime_ms: int
    merging_pages: int
    profit_bytes: int


@dataclass(frozen=True, slots=True)
class BootState:
    """What agent and boot loader agree on (docs/IMAGE.md)."""

    first: int
    """The slot to boot: 0 A, 1 B."""
    trial: bool
    """It is on trial."""
    tries: int
    """Boots the trial still has."""
    outcome: int
    """Of the last trial: 0 none, 1 confirmed, 2 out of tries, 3 unreadable, 4 left by request."""
    sequence: int


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """What a slot holds. Unknown numbers are 0, unknown texts and hashes empty."""

    state: str
    """"empty", "partial", "bad" or "whole"."""
    checked: bool
    """Its content was read through since the agent started, and is what was signed."""
    fault: int
    """What is wrong with a bad one, as errno: EBADMSG, ENOKEY, EKEYREJECTED, EMEDIUMTYPE."""
    size: int
    hash: bytes
    """The image's hash TLV: there as soon as there is an image."""
    image_sha: bytes
    """Of the image's file: known once it was received or read through."""
    version: str
    build_id: str
    board: str


@dataclass(frozen=True, slots=True)
class UpdateInfo:
    """An update the board has begun to receive; `off` is where to go on."""

    stream_sha: bytes
    stream_size: int
    off: int
    image_sha: bytes
    image_size: int


@dataclass(frozen=True, slots=True)
class Slots:
    """The board's two slots, and what it knows of updates."""

    running: int | None
    """0 A, 1 B; None on a rescue kernel."""
    target: int
    """The slot updates are written to."""
    state: BootState
    slots: tuple[SlotInfo, SlotInfo]
    slot_bytes: int
    """The largest image a slot takes."""
    block_bytes: int
    key: bytes
    """The start of the hash of the key that images must be signed with; empty: it has none."""
    public_key: bytes
    """That key, 32 bytes; empty: it has none, or its agent is too old to tell."""
    on_trial: bool
    watchdog: bool
    """This trial ends by itself if nobody confirms."""
    baud_max: int
    board: str
    update: UpdateInfo | None


@dataclass(frozen=True, slots=True)
class DiskBench:
    """How fast the board's disk is; while it `running`, the figures are not there yet."""

    running: bool
    run: int
    """How many were begun since the agent started."""
    fault: int
    """The errno of what stopped it, or 0."""
    scratch_at: int
    """Where on the disk it wrote."""
    read_bytes: int
    read_us: int
    write_bytes: int
    write_us: int
    """The flush at the end included."""
    flushes: int
    """So many blocks were written and flushed one by one."""
    flush_us: int
    """All of those together."""
    flush_max_us: int


@dataclass(frozen=True, slots=True)
class Watchdog:
    """The board's watchdog."""

    identity: str
    """What its driver calls itself; "" where there is none."""
    armed: bool
    """It runs, nobody pets it, and it bites within `limit_s`."""
    limit_s: int
    counts: bool
    """False for an emulator's that resets as soon as it is started."""


IN_TARGET = 0xFFFFFFFE
"""`update_index`: the target holds the block at this very place."""
NOWHERE = 0xFFFFFFFF
"""`update_index`: neither slot holds it."""


class StaleSessionError(RefusedError):
    """The sampling session asked for is no more: somebody restarted it, or the board did."""


class BoardSession(Protocol):
    """A live board. Open one with `ksmhost.link.open_session`, end it with `close`.

    The session outlives a pulled cable and a reset of the board: requests wait for the line
    (`Timing.back_s`), and `events` says what happened meanwhile. Several requests may be in flight
    at once, from several tasks.
    """

    @property
    def state(self) -> LinkState:
        """The state now; `events` reports its changes."""
        ...

    @property
    def where(self) -> str:
        """What the session is connected to, for people: "qemu-virt (emulated)", "/dev/ttyUSB0"."""
        ...

    @property
    def agentless(self) -> bool:
        """True if a login shell stands in for the agent."""
        ...

    async def identity(self) -> Identity:
        """Ask who is there. Asked anew each time; compare `boot_id` to notice a reboot."""
        ...

    async def groups(self) -> tuple[str, ...]:
        """The counter groups the board has: "ksm", "ksmd", "vm", "board", "link", "workload"."""
        ...

    async def counters(self, group: str) -> dict[str, int]:
        """All counters of one group, by name. `RefusedError` if there is no such group."""
        ...

    async def knobs(self) -> dict[str, str]:
        """All KSM knobs by their sysfs name, with the text sysfs gives (no newline)."""
        ...

    async def knob(self, name: str) -> str:
        """One knob's text. `RefusedError` (ENOENT) if the kernel has no such knob."""
        ...

    async def set_knob(self, name: str, value: str) -> None:
        """Write a knob. `RefusedError` carries the kernel's errno, in words too."""
        ...

    async def sampling(self) -> SamplingState:
        """The board's sampling session as it is now."""
        ...

    async def sampling_start(self, period_ms: int) -> SamplingState:
        """Start a new sampling session (5 to 60000 ms). It ends the one before, if any.

        There is one per board, and others may be reading it: look at `sampling` first and join a
        running one whose period is short enough.
        """
        ...

    async def sampling_stop(self) -> SamplingState:
        """Stop sampling. What the ring holds can still be read."""
        ...

    async def samples(self, session: int, seq: int, max_rows: int = 0) -> SampleBatch:
        """Read samples from number `seq` on: as many as there are and one answer holds.

        `max_rows` limits them when not 0. Raises `StaleSessionError` when `session` is not the
        board's current one: ask `sampling` and go on from there.
        """
        ...

    async def workloads(self) -> tuple[WorkloadInfo, ...]:
        """The workloads in the board's image; none on an agentless session."""
        ...

    async def workload_start(
        self, name: str, processes: int | None = None, seed: int | None = None
    ) -> None:
        """Start a workload, with its own number of processes and seed unless given."""
        ...

    async def workload_stop(self, name: str | None = None) -> None:
        """Stop one workload, or all of them."""
        ...

    async def workload_status(self, name: str) -> WorkloadStatus:
        """How a workload does."""
        ...

    async def slots(self) -> Slots:
        """The slots and the boot state. `RefusedError` (ENODEV) where there are none."""
        ...

    async def update_index(self, first: int, hashes: bytes) -> tuple[int, ...]:
        """Where blocks `first` and so on of a new image are: one number for each 8 bytes of hash.

        A block of the running slot, `IN_TARGET` or `NOWHERE`.
        """
        ...

    async def update_begin(
        self, stream_sha: bytes, stream_size: int, image_sha: bytes, image_size: int
    ) -> int:
        """Begin an update, or go on with one that was cut. Returns the offset to send first."""
        ...

    async def update_put(self, off: int, data: bytes) -> int:
        """Send a piece of the stream. Returns the offset wanted next: go back to it if need be.

        It is not repeated when it gets lost, which is `NoAnswerError` at once: a smaller piece may
        arrive. `RefusedError`: ESTALE when the agent was restarted meanwhile (begin again),
        EBADMSG when the stream is wrong.
        """
        ...

    async def update_finish(self, image_sha: bytes) -> None:
        """Have the board verify what was sent, which takes its time (`Timing.verify_s`).

        `RefusedError`: EAGAIN when something is missing (begin again), EBADMSG, ENOKEY,
        EKEYREJECTED (signature) or EMEDIUMTYPE (another board) when the image is not taken.
        """
        ...

    async def activate(
        self, mode: str, tries: int | None = None, *, downgrade: bool = False
    ) -> BootState:
        """ "trial": boot the target next; "confirm" the running image; "revert": leave a trial.

        `RefusedError`: EPERM when the target is older than what runs and `downgrade` is False.
        """
        ...

    async def reset(self) -> None:
        """Reset the board. Returns when the board said it will; `events` tells when it is back."""
        ...

    async def power_cycle(self) -> None:
        """Switch the board off and on where that can be done (emulators), else `RefusedError`."""
        ...

    def console(self) -> AsyncIterator[ConsoleText]:
        """Console output from the moment of this call on. Each caller gets all of it.

        A reader that does not keep up loses the oldest pieces, never the link.
        """
        ...

    def events(self) -> AsyncIterator[LinkEvent]:
        """State changes, reboots and panics from the moment of this call on."""
        ...

    async def console_write(self, data: bytes) -> None:
        """Type on the console. An agentless session sends whole lines only."""
        ...

    async def close(self) -> None:
        """Let go of the board. Idempotent; ends the iterators handed out."""
        ...
