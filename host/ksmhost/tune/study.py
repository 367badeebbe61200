# SPDX-License-Identifier: Apache-2.0
"""A study: its trials in Optuna's storage, and what to try next.

A study outlives whoever works on it: the same terms go on with it, after a crash too, and several
boards of a kind can work on one at the same time. A trial under way bears who takes it and when he
was last at it; one whose owner is gone is given up. Only trials that came to an end count, so that
what a crash or a reset cost is tried again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from ksmhost.board.settings import DEFAULTS
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.store.database import StoreError, StoreFullError, default_path
from ksmhost.tune.front import Limits, Point, Trial, TrialState
from ksmhost.tune.rivals import RIVALS
from ksmhost.tune.space import Choice, Range, Space

_TERMS: Final = "ksmhost"
"""The study's attribute with its terms; a study without it is somebody else's."""
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Terms:
    """What a study is about. Trials of other terms do not belong into it."""

    board: str
    engine: str
    build_id: str
    """Of the kernel."""
    workload: str
    processes: int | None
    seed: int | None
    settle_s: float
    space: Mapping[str, str]
    """`Space.words`."""

    def as_json(self) -> dict[str, Any]:
        """For the storage."""
        return {"format": _FORMAT, **asdict(self)}

    def differing(self, kept: Mapping[str, Any]) -> list[str]:
        """In what a kept study differs from these terms, in words."""
        mine = _flat(self.as_json())
        theirs = _flat(kept)
        return [
            f"{name} {theirs.get(name, 'none')}, not {mine.get(name, 'none')}"
            for name in dict.fromkeys([*mine, *theirs])
            if mine.get(name) != theirs.get(name)
        ]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the search goes about it."""

    seed: int = 1
    startup: int = 8
    """So many trials are spread at random before anything is made of them."""
    owner_s: float = 120.0
    """A trial whose owner, on another machine, has not been heard of for so long is given up."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A trial that is to be taken now."""

    number: int
    settings: dict[str, str]
    """Of searched knobs, or of a rival."""
    rival: str
    trial: optuna.Trial = field(repr=False)


class Study:
    """One study, opened to work on it or to look at it."""

    def __init__(
        self, study: optuna.Study, where: str, space: Space | None, sampling: Sampling
    ) -> None:
        self._study = study
        self._where = where
        self._space = space
        self._sampling = sampling

    @classmethod
    def open(
        cls,
        storage: str | None,
        name: str,
        terms: Terms,
        space: Space,
        rivals: Sequence[str] = (),
        sampling: Sampling | None = None,
    ) -> Study:
        """Begin a study, or go on with it. Raises `KsmhostError` (USAGE) if it has other terms.

        Trials of owners that are gone are given up, and rivals that have no point wait again.
        """
        url = storage_url(storage)
        _quiet()
        with _plainly(url):
            study = optuna.create_study(
                storage=_storage(url),
                study_name=name,
                directions=("maximize", "minimize"),
                load_if_exists=True,
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names(["saved_mib", "cpu_percent"])
            kept = study.user_attrs.get(_TERMS)
            if kept is None and study.get_trials(deepcopy=False):
                raise _usage(f"The study '{name}' in {url} is none of ksmhost's.", _OTHER)
            if kept is None:
                study.set_user_attr(_TERMS, terms.as_json())
            elif differing := terms.differing(kept):
                raise _usage(
                    f"The study '{name}' is about something else: {'; '.join(differing)}.", _OTHER
                )
            opened = cls(study, url, space, sampling or Sampling())
            opened._give_up_orphans()
            opened._let_wait(rivals)
        return opened

    @classmethod
    def load(cls, storage: str | None, name: str) -> Study:
        """A study that is there, to look at. Raises `KsmhostError` (USAGE) if it is not."""
        url = storage_url(storage)
        _quiet()
        with _plainly(url):
            held = _storage(url)
            names = optuna.get_all_study_names(held)
            if name not in names:
                raise _usage(
                    f"There is no study '{name}' in {url}.",
                    f"There are: {', '.join(sorted(names)) or 'none; ksmhost tune makes one'}.",
                )
            study = optuna.load_study(study_name=name, storage=held)
            if _TERMS not in study.user_attrs:
                raise _usage(f"The study '{name}' in {url} is none of ksmhost's.", "")
        return cls(study, url, None, Sampling())

    @property
    def name(self) -> str:
        """What it is called."""
        return self._study.study_name

    @property
    def where(self) -> str:
        """The storage, as a URL."""
        return self._where

    @property
    def terms(self) -> dict[str, Any]:
        """What it is about: `Terms` as they are kept."""
        return dict(self._study.user_attrs[_TERMS])

    def note(self, name: str, value: Any) -> None:
        """Keep something beside the trials; only the latest of a name stays."""
        with _plainly(self._where):
            self._study.set_user_attr(name, value)

    def noted(self, name: str) -> Any:
        """What was kept; None if nothing."""
        with _plainly(self._where):
            return self._study.user_attrs.get(name)

    def trials(self) -> list[Trial]:
        """All trials, in order."""
        with _plainly(self._where):
            return [_trial(trial) for trial in self._study.get_trials(deepcopy=False)]

    def left(self, wanted: int) -> int:
        """How many more trials there are to take: rivals that wait, and searched ones."""
        trials = self.trials()
        waiting = sum(t.state is TrialState.WAITING for t in trials)
        searched = [t for t in trials if not t.rival]
        under_way = sum(t.point is not None or t.state is TrialState.RUNNING for t in searched)
        return waiting + max(wanted - under_way, 0)

    def ask(self) -> Asked:
        """What to try next; it is this process's from now on."""
        space = self._space
        assert space is not None
        with _plainly(self._where):
            self._give_up_orphans()
            self._study.sampler = self._sampler()
            trial = self._study.ask()
            trial.set_user_attr("owner", _me())
            trial.set_user_attr("seen_s", time.time())
            rival = str(trial.user_attrs.get("rival", ""))
            chosen = dict(RIVALS[rival].settings) if rival else _suggest(trial, space)
            trial.set_user_attr("settings", chosen)
        return Asked(trial.number, chosen, rival, trial)

    def keep_up(self, asked: Asked, run: str) -> None:
        """Say that it is still being taken, and in which run, as soon as there is one."""
        with _plainly(self._where):
            asked.trial.set_user_attr("seen_s", time.time())
            if run:
                asked.trial.set_user_attr("run", run)

    def tell(
        self, asked: Asked, point: Point, limits: Limits, run: str, where: str, why: str = ""
    ) -> None:
        """A trial came to an end; `why` it was ended early, if it was.

        Where two took the same trial at one instant, or one was given up too soon, the first word
        counts; the run of the other is in its store.
        """
        with _plainly(self._where), contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._describe(asked, run, where, why)
            asked.trial.set_user_attr("point", asdict(point))
            for name, excess in limits.excess(point).items():
                asked.trial.set_constraint(name, excess)
            values = (point.saved_bytes / (1 << 20), point.cpu_percent)
            self._study.tell(asked.trial, values)

    def fail(self, asked: Asked, why: str, run: str = "", where: str = "") -> None:
        """A trial came to nothing."""
        with _plainly(self._where), contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._describe(asked, run, where, why)
            self._study.tell(asked.trial, state=OptunaState.FAIL)

    def _describe(self, asked: Asked, run: str, where: str, why: str) -> None:
        for name, value in (("run", run), ("where", where), ("why", why)):
            if value:
                asked.trial.set_user_attr(name, value)

    def _sampler(self) -> optuna.samplers.BaseSampler:
        """Seeded anew for each trial, so that going on with a study is no different from never
        having stopped. In groups, since rivals have none of the searched knobs."""
        number = len(self._study.get_trials(deepcopy=False))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(
                seed=self._sampling.seed + number,
                n_startup_trials=self._sampling.startup,
                multivariate=True,
                group=True,
                constant_liar=True,
            )

    def _give_up_orphans(self) -> None:
        for trial in self._study.get_trials(deepcopy=False, states=(OptunaState.RUNNING,)):
            if _is_orphan(trial, self._sampling.owner_s):
                self._study.tell(trial.number, state=OptunaState.FAIL, skip_if_finished=True)

    def _let_wait(self, rivals: Sequence[str]) -> None:
        trials = [_trial(trial) for trial in self._study.get_trials(deepcopy=False)]
        there = {t.rival for t in trials if t.state is not TrialState.FAILED}
        kept = self._space is None or all(
            value == DEFAULTS.get(name) for name, value in self._space.fixed.items()
        )
        for rival in rivals:
            if rival not in there:
                eligible = kept and RIVALS[rival].control is None
                attributes = {"rival": rival, "eligible": eligible}
                self._study.enqueue_trial({}, user_attrs=attributes)


def storage_url(storage: str | None) -> str:
    """The URL of a storage: as given, of a file, or of the user's own."""
    if storage is not None and "://" in storage:
        return storage
    path = Path(storage) if storage is not None else default_path().with_name("studies.db")
    return f"sqlite:///{path.expanduser().absolute()}"


def study_name(terms: Terms) -> str:
    """What a study of these terms is called unless the user says otherwise."""
    return "-".join(filter(None, (terms.board, terms.workload, terms.engine)))


def _suggest(trial: optuna.Trial, space: Space) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for name, values in space.searched.items():
        match values:
            case Range(low, high):
                chosen[name] = str(trial.suggest_int(name, low, high, log=True))
            case Choice(words):
                chosen[name] = str(trial.suggest_categorical(name, words))
    return chosen


_STATES: Final = {
    OptunaState.WAITING: TrialState.WAITING,
    OptunaState.RUNNING: TrialState.RUNNING,
    OptunaState.COMPLETE: TrialState.DONE,
    OptunaState.FAIL: TrialState.FAILED,
    OptunaState.PRUNED: TrialState.FAILED,
}


def _trial(trial: FrozenTrial) -> Trial:
    attrs = trial.user_attrs
    state, point, why = _STATES[trial.state], None, str(attrs.get("why", ""))
    if state is TrialState.DONE and "point" in attrs:
        point = Point(**attrs["point"])
        state = TrialState.STOPPED if why else state
    elif state is TrialState.DONE:  # not told by us
        state = TrialState.FAILED
    if state is TrialState.FAILED and not why:
        why = "whoever took it is gone"
    return Trial(
        number=trial.number,
        state=state,
        settings=dict(attrs.get("settings", {})),
        point=point,
        rival=str(attrs.get("rival", "")),
        run=str(attrs.get("run", "")),
        where=str(attrs.get("where", "")),
        why=why,
        eligible=bool(attrs.get("eligible", True)),
    )


def _me() -> str:
    return f"{socket.gethostname()}/{os.getpid()}"


def _is_orphan(trial: FrozenTrial, owner_s: float) -> bool:
    """True if nobody takes the trial any more."""
    host, _, pid = str(trial.user_attrs.get("owner", "")).rpartition("/")
    if host == socket.gethostname() and pid.isdecimal():
        if int(pid) == os.getpid():
            return False
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
    started = trial.datetime_start
    if "seen_s" not in trial.user_attrs and started is None:
        return False  # it is just being begun
    seen_s = float(trial.user_attrs.get("seen_s", started.timestamp() if started else 0.0))
    return time.time() - seen_s > owner_s


def _quiet() -> None:
    """Optuna reports on stderr by itself; here the caller does."""
    optuna.logging.set_verbosity(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)


def _storage(url: str) -> optuna.storages.BaseStorage:
    if not url.startswith("sqlite:///"):
        return optuna.storages.RDBStorage(url)
    path = Path(url.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 20}})


_OTHER: Final = "Give the same terms as then, or begin another one with --study NAME."


@contextlib.contextmanager
def _plainly(url: str) -> Iterator[None]:
    """Turn what the storage has to say into a `StoreError`."""
    from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError  # noqa: PLC0415

    kinds = (
        *(ArgumentError, DBAPIError, NoSuchModuleError, optuna.exceptions.StorageInternalError),
        *(OSError, ImportError),
    )
    try:
        yield
    except kinds as error:
        raise _explained(_without_password(url), error) from error


def _explained(where: str, error: Exception) -> KsmhostError:
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    words = str(root).split("\n", 1)[0].rstrip(".")
    if isinstance(root, ImportError):
        return KsmhostError(
            f"The storage {where} needs a driver that is not installed: {words}.",
            todo="Install it beside ksmhost with pip.",
            code=ExitCode.MISSING_TOOL,
        )
    if "is full" in words or getattr(root, "errno", None) == 28:
        return StoreFullError(f"The disk is full: {where} cannot grow.", todo="Make room there.")
    return StoreError(
        f"The storage {where} cannot be used: {words}.",
        means="What was told to it before is kept.",
        todo="Name another with --storage FILE or URL.",
    )


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    _, at, place = rest.rpartition("@")
    return f"{scheme}://{place}" if at else url


def _flat(terms: Mapping[str, Any]) -> dict[str, str]:
    """Terms as words, knobs by their names."""
    found = {name: str(value) for name, value in terms.items() if name != "space"}
    return found | {name: str(value) for name, value in dict(terms.get("space", {})).items()}


def _usage(what: str, todo: str) -> KsmhostError:
    return KsmhostError(what, todo=todo, code=ExitCode.USAGE)
