# SPDX-License-Identifier: Apache-2.0
"""When may something be sent to the board? The link's state machine, without any I/O.

Requests go out only while the agent is known to answer. Otherwise single questions ("probes") ask
whether it is there yet: ever more rarely towards a board that stays silent, and not at all into a
boot loader, whose countdown any byte might stop, nor into a kernel that has not opened its port:
what it cannot take is lost, or (QEMU's PL011) leaves the port deaf. The agent's first words, the
kernel's messages so far, say that it is up.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ksmhost.link.console_watch import Stage
from ksmhost.link.session import LinkState, StateChanged, Timing

_EAGER_PROBES = 30
_SLOWER = 1.5


class Guard:
    """The state of one line. Times are `time.monotonic()` values handed in by the caller.

    `passive` is for agentless lines: no probes, a line that is up counts as connected.
    """

    def __init__(
        self,
        timing: Timing,
        report: Callable[[StateChanged], None],
        now: float,
        *,
        boots: bool,
        loader: bool,
        passive: bool,
    ) -> None:
        self.state = LinkState.CONNECTING
        self._timing = timing
        self._report = report
        self._loader = loader
        self._passive = passive
        self._usable_until = now
        self._probe_at: float | None = None
        self._probes = 0
        self._unanswered = 0
        self._hold_s = 0.0
        self._kernel = False
        self._deaf_until = now
        if boots:
            self.expect_boot(now, "the board starts")
        else:
            self._line_is_there(now, "")

    @property
    def may_send(self) -> bool:
        """True while requests may go out."""
        return self.state is LinkState.CONNECTED

    @property
    def probe_at(self) -> float | None:
        """When the next probe is due (or, passive, when a boot counts as over); None: never."""
        return self._probe_at

    @property
    def patience_s(self) -> float:
        """How long a request may wait for a state that lets it out."""
        waits = {
            LinkState.BOOTING: self._timing.boot_s,
            # What waited for a boot goes out now, however long that took.
            LinkState.CONNECTED: self._timing.boot_s,
            LinkState.LOST: self._timing.back_s,
            LinkState.DIED: 0.0,
            LinkState.ENDED: 0.0,
        }
        return waits.get(self.state, self._timing.open_s)

    def probed(self, now: float) -> None:
        """A probe went out: plan the next."""
        if self._passive:
            self._enter(LinkState.CONNECTED, now)
            return
        self._hold_s = 0.0
        self._probes += 1
        pause = self._timing.probe_s
        if self.state is not LinkState.BOOTING or self._probes > _EAGER_PROBES:
            pause = min(pause * _SLOWER ** min(self._probes, 32), self._timing.probe_max_s)
        self._probe_at = now + pause

    def heard_frame(self, now: float) -> None:
        """The agent said something."""
        self._unanswered = 0
        if now < self._deaf_until:
            return  # an answer that was under way when the board was reset
        if self.state not in (LinkState.CONNECTED, LinkState.LOST, LinkState.ENDED):
            self._enter(LinkState.CONNECTED, now)

    def heard_text(self, now: float) -> None:
        """The console said something: a boot loader is not done, a kernel has come up."""
        if self.state is not LinkState.BOOTING or not self._hold_s:
            return
        if self._kernel:
            self._hold(now, 0.0)
            self._probe_at = now
        else:
            self._probe_at = now + self._hold_s

    def boot(self, stage: Stage, now: float) -> None:
        """The console told how far a boot is.

        An agent that answers may well repeat its kernel's first messages: that is no boot.
        """
        if stage is Stage.KERNEL and (self._passive or self.may_send):
            self._enter(LinkState.CONNECTED, now)
            return
        self._enter(LinkState.BOOTING, now, f"the board is in its {stage.value}")
        self._hold_for(stage, now, self._timing.loader_hold_s)

    def expect_boot(self, now: float, reason: str = "the board was reset") -> None:
        """The board was reset or switched on by us."""
        self._enter(LinkState.BOOTING, now, reason)
        stage = Stage.LOADER if self._loader else Stage.KERNEL
        self._hold_for(stage, now, self._timing.boot_hold_s)
        self._deaf_until = now + self._timing.quiet_s

    def lend(self, now: float) -> None:
        """Somebody uses the line raw: nothing is asked until it is back."""
        self._enter(LinkState.BOOTING, now, "the line is lent to a rescue")
        self._hold_s = 0.0
        self._probe_at = None

    def take_back(self, now: float) -> None:
        """The line is back, and a kernel is about to start."""
        self.boot(Stage.KERNEL, now)

    def unanswered(self, now: float) -> None:
        """A request got no answer in time."""
        self._unanswered += 1
        if self._unanswered >= self._timing.tries and self.state is LinkState.CONNECTED:
            self._enter(LinkState.SILENT, now, "requests stay without an answer")
            self._probe_at = now

    def line_down(self, now: float, reason: str) -> None:
        """The line broke."""
        self._enter(LinkState.LOST, now, reason)

    def line_up(self, now: float) -> None:
        """The line is back; whether the board is still the same remains to be asked."""
        self._line_is_there(now, "the line is back")

    def died(self, now: float) -> None:
        """The kernel panicked."""
        self._enter(LinkState.DIED, now, "the kernel panicked")
        self._probe_at = None if self._passive else now + self._timing.probe_max_s

    def ended(self, now: float, reason: str) -> None:
        """It is over for good."""
        self._enter(LinkState.ENDED, now, reason)

    def _hold_for(self, stage: Stage, now: float, loader_s: float) -> None:
        self._kernel = stage is Stage.KERNEL
        self._hold(now, self._timing.kernel_hold_s if self._kernel else loader_s)

    def _hold(self, now: float, hold_s: float) -> None:
        """Be quiet until the console has been for `hold_s`; 0: ask at once, and often."""
        self._hold_s = hold_s
        self._probes = 0
        self._probe_at = now + (hold_s or self._timing.probe_s)

    def _line_is_there(self, now: float, reason: str) -> None:
        if self._passive:
            self._enter(LinkState.CONNECTED, now)
            return
        self._enter(LinkState.CONNECTING, now, reason)
        self._probe_at = now

    def _enter(self, state: LinkState, now: float, reason: str = "") -> None:
        if state is self.state:
            return
        gap = 0.0
        if state is LinkState.CONNECTED:
            gap = now - self._usable_until
        elif self.state is LinkState.CONNECTED:
            self._usable_until = now
        self.state = state
        self._probe_at = None
        self._probes = 0
        self._unanswered = 0
        self._hold_s = 0.0
        self._report(StateChanged(time.time(), state, reason, gap))
