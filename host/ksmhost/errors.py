# SPDX-License-Identifier: Apache-2.0
"""Errors a user is meant to read, and the exit codes that go with them.

Every failure that has a cause outside this program (a port, a tool, a board, a file) is raised as
a `KsmhostError`: what happened, what it means, what to do. The command line prints the three parts
on stderr and ends with the error's exit code; anything else that escapes is a bug.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every verb. They are documented in docs/EXIT-CODES.md and never renumbered."""

    OK = 0
    FAILURE = 1
    """Something failed that has no code of its own."""
    USAGE = 2
    """The command line or a file it names is wrong; nothing was done."""
    NO_BOARD = 3
    """No such board, none running, or more than one and none was named."""
    PORT = 4
    """The port cannot be opened: absent, not permitted, or held by another program or user."""
    NO_ANSWER = 5
    """The line is open, but nothing on it answers as an agent or a shell."""
    REFUSED = 6
    """The board or its kernel refused what was asked."""
    LINE_LOST = 7
    """The line broke in mid-session and did not come back in time."""
    MISSING_TOOL = 8
    """A program or package is missing or too old."""
    BUILD = 9
    """The build failed, or what was asked for is not built."""
    BOARD_DIED = 10
    """The board panicked, reset itself, or its emulator ended."""
    BAD_IMAGE = 11
    """The image is damaged, cut short or not signed; nothing was sent."""
    BAD_SIGNATURE = 12
    """The image is signed with another key than the board's, or wrongly; nothing was sent."""
    WRONG_BOARD = 13
    """The image is for another board; nothing was sent."""
    NOT_ACTIVATED = 14
    """The image is on the board and verified, but was not activated, as was asked for."""
    REVERTED = 15
    """The image was tried, and the board runs its old one again."""
    STORE = 16
    """The store of runs cannot be read or written: damaged, of a newer version, in use, no room."""
    WORKLOAD_DIED = 17
    """Processes of the workload ended in mid-run; the run is kept, and says so."""
    UNMET = 18
    """`tune`: no setting that was tried keeps the limits, or merging saves nothing at all."""
    STEP_BACK = 19
    """The image is older than what the board runs, and that was not asked for."""
    BETTER = 20
    """`compare`: B is better than A in something that is judged, and worse in nothing."""
    WORSE = 21
    """`compare`: B is worse than A in something that is judged."""
    INCONCLUSIVE = 22
    """`compare`: neither a difference nor its absence could be shown. SAME is OK."""
    STEP_FAILED = 23
    """`doctor` of a board: a step did not pass, or the board is not as it was before."""
    INTERRUPTED = 130
    """Ctrl-C."""
    TERMINATED = 143
    """Ended by SIGTERM or SIGHUP, in good order."""


class KsmhostError(Exception):
    """A failure to tell the user about.

    `what` is one sentence on what happened, `means` what follows from it, `todo` what to do next;
    the last two may be empty. `code` becomes the process's exit code.
    """

    def __init__(
        self, what: str, *, means: str = "", todo: str = "", code: ExitCode = ExitCode.FAILURE
    ) -> None:
        super().__init__(what)
        self.what = what
        self.means = means
        self.todo = todo
        self.code = code

    def __str__(self) -> str:
        return " ".join(part for part in (self.what, self.means, self.todo) if part)
