# SPDX-License-Identifier: Apache-2.0
"""What a stream of samples is made of: samples, gaps between them, and changes of the line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """All counters of a board at one moment.

    `seq` counts up by one within a sampling session. `time_s` is the board's monotonic clock,
    `wall_s` the host's estimate of the same moment as Unix time. `values` are the raw counters by
    their `group.field` names, in the units `ksmhost.sample.schema` gives them.
    """

    seq: int
    time_s: float
    wall_s: float
    values: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Gap:
    """Samples that nobody will ever see, or a break in the board's own clock.

    `missed` is how many samples were lost, None when it cannot be known (the board restarted).
    `duration_s` is how long nothing was measured, by the board's clock where it went on, else by
    the host's. `restarted` tells that counters may have begun again from zero.
    """

    duration_s: float
    missed: int | None
    reason: str
    restarted: bool = False


@dataclass(frozen=True, slots=True)
class LineLost:
    """Since `since_s` (Unix time) the board cannot be asked.

    `state` says how that is: "lost" (the line), "silent", "booting" or "died" (the board). Unless
    the board restarts, samples go on piling up in its ring.
    """

    since_s: float
    state: str = "lost"
    why: str = ""


@dataclass(frozen=True, slots=True)
class LineBack:
    """The board answers again after `lost_s` seconds; what its ring still holds follows."""

    lost_s: float


StreamItem = Sample | Gap | LineLost | LineBack
