# SPDX-License-Identifier: Apache-2.0
"""Hardware-in-loop tests with pytest: a board, its knobs, its workloads, its console.

    pytest --ksm-board rpi4 --emulate               the board in its emulator
    pytest --ksm-board rpi4 --port /dev/ttyUSB0     the real one

Fixtures: `board` (booted once, reset on demand), `ksm` (knobs, put back after each test),
`workload` (stopped after each test), `sampling` (figures of a stretch of time), `console`. A test
during which the kernel panics, oopses or warns fails. docs/PYTEST.md has it all.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from ksmhost.link import Where, WorkloadStatus
    from ksmhost.testing.console import Console
    from ksmhost.testing.live import LiveBoard
    from ksmhost.testing.sampling import Sampling

_LIVE: pytest.StashKey[LiveBoard] = pytest.StashKey()
_CONSOLE: pytest.StashKey[Console] = pytest.StashKey()
_COMPLAINTS: pytest.StashKey[str] = pytest.StashKey()
"""What the kernel had to say while a test failed by itself."""
_ENDS: pytest.StashKey[bool] = pytest.StashKey()
"""True once a test has come to its end; one in which the run was interrupted never does."""
_CONSOLE_LINES = 100
_OF_A_FAILURE = ("ksm_console", "ksm_complaints")
_MARKER = (
    "ksm_needs(engine=, knobs=(), counters=(), workload=, mem_mib=, cpus=, real=): "
    "skip the test on a board that has it not"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which board the tests run on."""
    group = parser.getgroup("ksmhost", "a board with KSM (ksmhost)")
    group.addoption("--ksm-board", metavar="NAME", help="the board: a folder of boards/")
    group.addoption("--port", metavar="PORT", help="its serial port or URL")
    group.addoption("--emulate", action="store_true", help="start it in its emulator")
    group.addoption("--ksm-model", metavar="NAME", help="emulated: which model of the board")
    group.addoption("--ksm-engine", metavar="ENGINE", help="the image built with this engine")
    group.addoption(
        "--ksm-vmlinux", metavar="FILE", type=Path, help="puts file and line into kernel traces"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _MARKER)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Which board was asked for."""
    if not _wanted(config):
        return []
    where = _where(config)
    how = "emulated" if where.emulate else where.port or "the one that runs"
    return [f"board: {where.board or 'as it names itself'} ({how})"]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: Sequence[object]) -> None:
    """Refuse to run several tests at once on the one board there is."""
    if _wanted(config) and len(specs) > 1:
        raise pytest.UsageError(
            "A board serves one test at a time, and pytest-xdist would run several: add -n 0."
        )


# -- fixtures --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def ksm_session(pytestconfig: pytest.Config) -> Iterator[LiveBoard]:
    """The board, booted once for all tests."""
    from ksmhost.errors import KsmhostError  # noqa: PLC0415  (loaded when a board is used)
    from ksmhost.testing.live import LiveBoard  # noqa: PLC0415

    if not _wanted(pytestconfig):
        pytest.skip("no board: --ksm-board NAME --emulate, or --port PORT")
    with ExitStack() as opened:
        try:
            live = opened.enter_context(LiveBoard(_where(pytestconfig)))
        except KsmhostError as error:
            pytest.exit(f"no board to test on: {error}", returncode=int(error.code))
        pytestconfig.stash[_LIVE] = live
        yield live


@pytest.fixture
def board(request: pytest.FixtureRequest, ksm_session: LiveBoard) -> Iterator[LiveBoard]:
    """The board for one test. Where it was left dead it is brought back, or the test is skipped."""
    from ksmhost.errors import KsmhostError  # noqa: PLC0415
    from ksmhost.testing.console import Console  # noqa: PLC0415

    live = ksm_session
    try:
        live.revive()
    except KsmhostError as error:
        pytest.skip(str(error))
    _check_needs(request.node, live)
    request.node.stash[_CONSOLE] = Console(live.log)
    _note_board(request.node, live)
    yield live
    if request.node.stash.get(_ENDS, False):
        _check_console(request.node)  # what putting things back has provoked


@pytest.fixture
def console(request: pytest.FixtureRequest, board: LiveBoard) -> Console:
    """What the board's console says from the test's beginning on."""
    return cast("Console", request.node.stash[_CONSOLE])


class Knobs(Mapping[str, str]):
    """The engine's knobs by their sysfs names, as texts; put back when the test is over."""

    def __init__(self, board: LiveBoard) -> None:
        self._board = board

    def __getitem__(self, name: str) -> str:
        """A knob as sysfs gives it."""
        return self._board.knobs()[name]

    def __setitem__(self, name: str, value: str | int) -> None:
        """Write a knob. RefusedError with the kernel's reason."""
        self._board.set_knob(name, str(value))

    def __iter__(self) -> Iterator[str]:
        """Their names."""
        return iter(self._board.knobs())

    def __len__(self) -> int:
        """How many there are."""
        return len(self._board.knobs())

    def set(self, **knobs: str | int) -> None:
        """Write several, in this order: `ksm.set(pages_to_scan=1000, run=1)`."""
        for name, value in knobs.items():
            self[name] = value

    @property
    def counters(self) -> Mapping[str, int]:
        """The engine's counters, read anew."""
        return self._board.counters("ksm")


@pytest.fixture
def ksm(board: LiveBoard) -> Iterator[Knobs]:
    """Knobs and counters. Behind the test all is unmerged, and each knob is as it was."""
    before = board.knobs()
    yield Knobs(board)
    if not board.broken:
        board.revive()
        board.restore(before)


class Workload:
    """The workloads in the board's image; all are stopped when the test is over."""

    def __init__(self, board: LiveBoard, node: pytest.Item) -> None:
        self._board = board
        self._node = node

    @property
    def names(self) -> tuple[str, ...]:
        """Those there are."""
        return tuple(workload.name for workload in self._board.workloads())

    def start(self, name: str, processes: int | None = None, seed: int | None = None) -> None:
        """Start one, with its own number of processes unless given.

        Without a seed it gets that of its name, as in a recorded run; the report tells it.
        """
        from ksmhost.workloads import seed_of  # noqa: PLC0415

        seed = seed_of(name) if seed is None else seed
        self._board.workload_start(name, processes, seed)
        self._node.user_properties.append(("ksm_workload", f"{name}, seed {seed}"))

    def status(self, name: str) -> WorkloadStatus:
        """How one does."""
        return self._board.workload_status(name)

    def stop(self) -> None:
        """Stop all, and wait until their processes are gone."""
        self._board.workload_stop()


@pytest.fixture
def workload(request: pytest.FixtureRequest, board: LiveBoard) -> Iterator[Workload]:
    """Workloads to start."""
    yield Workload(board, request.node)
    if not board.broken:
        board.revive()
        board.workload_stop()


class Sampler:
    """Makes samplings: `with sampling(period_ms=200) as taken: taken.run_for(30)`."""

    def __init__(self, board: LiveBoard, node: pytest.Item) -> None:
        self._board = board
        self._node = node
        self._taken = 0

    @contextmanager
    def __call__(self, period_ms: int = 200) -> Iterator[Sampling]:
        """Sample while the block runs; its `figures` go into the test's report."""
        from ksmhost.testing.sampling import Sampling  # noqa: PLC0415

        self._taken += 1
        prefix = "ksm" if self._taken == 1 else f"ksm_{self._taken}"
        taken = Sampling(self._board, period_ms)
        try:
            with taken:
                yield taken
        finally:
            if taken.figures is not None:
                figures = asdict(taken.figures)
                self._node.user_properties += [
                    (f"{prefix}_{name}", _rounded(value))
                    for name, value in figures.items()
                    if value not in (None, "")
                ]


@pytest.fixture
def sampling(request: pytest.FixtureRequest, board: LiveBoard) -> Sampler:
    """Counters over a stretch of time, and what they come to."""
    return Sampler(board, request.node)


# -- what a board must have ------------------------------------------------------------------------


def _check_needs(node: pytest.Item, live: LiveBoard) -> None:
    from ksmhost.testing.needs import Needs  # noqa: PLC0415

    for marker in node.iter_markers("ksm_needs"):
        if missing := Needs(**marker.kwargs).missing(live):
            pytest.skip(f"{live.identity.board or 'the board'} has not {missing}")


# -- reports ---------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A kernel that complained during the test fails it, or is told beside its own failure."""
    try:
        result = yield
    except (KeyboardInterrupt, pytest.exit.Exception):
        raise
    except pytest.skip.Exception:
        _check_console(item)
        raise
    except (Exception, pytest.fail.Exception):
        item.stash[_COMPLAINTS] = _untold(item)
        raise
    _check_console(item)
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """From here on it is the test's end that a complaint fails."""
    item.stash[_ENDS] = True


def _check_console(item: pytest.Item) -> None:
    if told := _untold(item):
        pytest.fail(told, pytrace=False)


def _untold(item: pytest.Item) -> str:
    """What the kernel has complained of and nobody was told yet; "" for nothing."""
    from ksmhost.testing.console import with_places  # noqa: PLC0415

    console = item.stash.get(_CONSOLE, None)
    if console is None:
        return ""
    live = item.config.stash[_LIVE]
    live.flush()
    complaints = console.untold()
    if not complaints:
        return ""
    build_id = dict(item.user_properties).get("ksm_build_id", "")
    vmlinux = _vmlinux(item.config, dict(item.user_properties))
    told = "\n\n".join(with_places(each, vmlinux, str(build_id)) for each in complaints)
    kinds = ", ".join(dict.fromkeys(complaint.kind.value for complaint in complaints))
    return f"{kinds} during the test:\n{told}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failing test's report has the board's console, and so does JUnit XML."""
    report = yield
    console = item.stash.get(_CONSOLE, None)
    if console is None or not report.failed:
        return report
    known = [(name, value) for name, value in item.user_properties if name not in _OF_A_FAILURE]
    figures = "\n".join(f"{name} = {value}" for name, value in known if name.startswith("ksm_"))
    text = "\n".join(console.text.splitlines()[-_CONSOLE_LINES:])
    if call.when == "call" and (complaints := item.stash.get(_COMPLAINTS, "")):
        report.sections.append(("the kernel complained, too", complaints))
        known.append(("ksm_complaints", complaints))
    report.sections.append(("board console during the test", text or "(nothing)"))
    report.sections.append(("board figures", figures))
    item.user_properties[:] = [*known, ("ksm_console", text)]
    report.user_properties = list(item.user_properties)  # it may be the last of this test
    return report


def _note_board(node: pytest.Item, live: LiveBoard) -> None:
    who = live.identity
    about = {
        "board": who.board,
        "serial": who.serial,
        "engine": who.engine,
        "kernel": who.kernel,
        "image": who.image,
        "build_id": who.build_id,
    }
    node.user_properties += [(f"ksm_{name}", value) for name, value in about.items() if value]


def _rounded(value: object) -> object:
    return round(value, 3) if isinstance(value, float) else value


# -- options ---------------------------------------------------------------------------------------


def _wanted(config: pytest.Config) -> bool:
    return any(config.getoption(name) for name in ("ksm_board", "port", "emulate"))


def _where(config: pytest.Config) -> Where:
    from ksmhost.link import Where  # noqa: PLC0415

    return Where(
        board=cast(Any, config.getoption("ksm_board")),
        port=cast(Any, config.getoption("port")),
        emulate=bool(config.getoption("emulate")),
        engine=cast(Any, config.getoption("ksm_engine")),
        model=cast(Any, config.getoption("ksm_model")),
    )


def _vmlinux(config: pytest.Config, about: Mapping[str, object]) -> Path | None:
    """The one that was named, or that of the board's own build with the engine that runs."""
    from ksmhost.board import find_project, load_board  # noqa: PLC0415
    from ksmhost.errors import KsmhostError  # noqa: PLC0415

    named = cast("Path | None", config.getoption("ksm_vmlinux"))
    if named is not None:
        return named
    where = _where(config)
    try:
        board = load_board(where.board or str(about.get("ksm_board", "")), find_project())
    except KsmhostError:
        return None
    engine = where.engine or str(about.get("ksm_engine", "ksmhost"))
    built = board.build_dir(engine) / "vmlinux"
    return built if built.is_file() else None
