# SPDX-License-Identifier: Apache-2.0
"""What labgrid says of a place, and has done to it: all of it through `labgrid-client`.

labgrid is never imported: it brings a fork of pyserial under the same module name, so it lives in
a Python environment of its own and is driven as a program. Nothing of the user's labgrid set-up
that would do more than was asked (an environment file, a strategy's state) reaches the client.
"""

from __future__ import annotations

import ast
import asyncio
import getpass
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.target.process import end_process, start_leashed

SCHEME: Final = "labgrid://"
CLIENT: Final = "labgrid-client"
CLIENT_VARIABLE: Final = "KSMHOST_LABGRID_CLIENT"
INSTALL: Final = "pipx install labgrid"

_COORDINATOR: Final = "127.0.0.1:20408"
_DOES_MORE: Final = (
    "LG_ENV",
    *("LG_PLACE", "PLACE", "LG_STATE", "STATE", "LG_INITIAL_STATE"),
)
_SERIAL: Final = "NetworkSerialPort"
_SCHEMES: Final = {"rfc2217": "rfc2217", "raw": "socket"}
_POWER: Final = re.compile(r".*PowerPort|PDUDaemonPort")
_UNREACHABLE: Final = ("coordinator is unavailable", "Could not connect to coordinator")
_UNKNOWN: Final = "matches nothing"
_NOT_HELD: Final = "is not acquired"
_PREFIX: Final = re.compile(r"^(?:(?:labgrid-client|Server error|Error):\s*)+")
_TITLE: Final = re.compile(r"^Place '(.+)':$")
_FIELD: Final = re.compile(r"^  (acquired|allowed|changed): (.*)$")
_RESOURCE: Final = re.compile(r"^(?:Acquired|Matching) resource '(.+)' \(")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long labgrid may take."""

    call_s: float = 10.0
    """For one call of the client, which starts a Python and asks the coordinator."""
    power_s: float = 60.0
    """To switch a board off and on; the pause in between is labgrid's."""
    ready_s: float = 10.0
    """From acquiring a place until its exporter serves the port."""
    look_s: float = 3.0
    """Between looks at a place whose line is down."""
    poll_s: float = 0.3
    """Between looks at one whose port will be there any moment."""
    stop_s: float = 2.0
    """For the client to end when asked, before it is killed."""


# -- what a place is called ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlaceName:
    """A place of one coordinator, and which of its serial ports; "" the only one.

    As a port: `labgrid://PLACE`, `labgrid://COORDINATOR/PLACE`, either with `#PORT` behind it.
    """

    coordinator: str
    place: str
    serial: str = ""

    @staticmethod
    def parse(port: str, environment: Mapping[str, str] = os.environ) -> PlaceName:
        """From what was given as a port. Raises KsmhostError (USAGE)."""
        url = urlsplit(port)
        first, second = unquote(url.netloc), unquote(url.path.strip("/"))
        place = second or first
        if not place.strip("+") or url.query:
            raise KsmhostError(
                f"{port} names no place.",
                todo=f"It has to look like {SCHEME}PLACE or {SCHEME}COORDINATOR/PLACE; "
                f"of a reservation, {SCHEME}+TOKEN.",
                code=ExitCode.USAGE,
            )
        coordinator = first if second else coordinator_of(environment)
        return PlaceName(coordinator, place, unquote(url.fragment))

    def __str__(self) -> str:
        """The whole address, which depends on no variable any more."""
        serial = f"#{quote(self.serial)}" if self.serial else ""
        place = quote(self.place, safe="+")
        return f"{SCHEME}{quote(self.coordinator, safe=':[]')}/{place}{serial}"


def is_place(port: str) -> bool:
    """True for a place of labgrid's."""
    return port.startswith(SCHEME)


def coordinator_of(environment: Mapping[str, str]) -> str:
    """Where the coordinator is: LG_COORDINATOR; before labgrid 24, LG_CROSSBAR."""
    for name in ("LG_COORDINATOR", "LG_CROSSBAR"):
        if environment.get(name):
            return environment[name]
    return _COORDINATOR


def user_name(environment: Mapping[str, str] = os.environ) -> str:
    """Who we are to labgrid: HOST/USER."""
    host = environment.get("LG_HOSTNAME") or socket.gethostname()
    return f"{host}/{environment.get('LG_USERNAME') or getpass.getuser()}"


# -- what labgrid says of it -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Resource:
    """A thing that belongs to a place."""

    name: str
    kind: str
    available: bool
    values: Mapping[str, Any]

    @property
    def proxy(self) -> str:
        """The host one has to go through by SSH; "" if it can be reached directly."""
        extra = self.values.get("extra") or {}
        return str(extra.get("proxy")) if extra.get("proxy_required") else ""

    @property
    def served(self) -> bool:
        """True once its exporter serves it."""
        return self.available and bool(self.values.get("port"))

    @property
    def speed(self) -> int:
        """A serial port's rate."""
        return int(self.values.get("speed", 115200))

    @property
    def url(self) -> str:
        """A serial port's address, as pyserial takes it."""
        protocol = str(self.values.get("protocol", "rfc2217"))
        # ser2net on an adapter without modem lines never acknowledges that they were set.
        options = "?ign_set_control" if protocol == "rfc2217" else ""
        host, port = str(self.values["host"]), int(self.values["port"])
        host = f"[{host}]" if ":" in host else host
        return f"{_SCHEMES.get(protocol, protocol)}://{host}:{port}{options}"


@dataclass(frozen=True, slots=True)
class Place:
    """A place as it is now."""

    name: str
    holder: str
    """HOST/USER who acquired it; "" nobody."""
    allowed: tuple[str, ...]
    """All who may use it, the holder among them."""
    changed: str
    """When it was last acquired, released or edited."""
    resources: tuple[Resource, ...] = field(default=())

    @property
    def has_power(self) -> bool:
        """True if `labgrid-client power` finds a switch."""
        return any(_POWER.fullmatch(resource.kind) for resource in self.resources)

    def serial(self, name: str = "") -> Resource:
        """Its serial port, of several the one of that name. Raises KsmhostError (PORT)."""
        ports = [each for each in self.resources if each.kind == _SERIAL]
        fitting = [port for port in ports if name in ("", port.name)]
        if len(fitting) == 1:
            return fitting[0]
        if not ports:
            raise _no_serial(self)
        names = ", ".join(port.name for port in ports)
        what = "has several serial ports" if not name else f"has no serial port '{name}'"
        raise KsmhostError(
            f"The place {self.name} {what}.",
            means=f"It has: {names}.",
            todo=f"Name one: {SCHEME}{self.name}#{ports[0].name}",
            code=ExitCode.PORT,
        )


def parse_show(text: str) -> Place:
    """What `labgrid-client show` prints. Raises ValueError if it is something else."""
    name, fields, found = "", {"acquired": "", "allowed": "", "changed": ""}, []
    blocks: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if title := _TITLE.match(line):
            name = title[1]
        elif started := _RESOURCE.match(line):
            blocks.append((started[1], []))
        elif blocks:
            blocks[-1][1].append(line)
        elif said := _FIELD.match(line):
            fields[said[1]] = said[2].strip()
    if not name:
        raise ValueError(text)
    for resource, lines in blocks:
        body = [line for line in lines if line.startswith("  ")]  # else: an orphan's, a log's
        found.append(_resource(resource, "\n".join(body)))
    holder = fields["acquired"].removeprefix("None")
    allowed = tuple(who.strip() for who in fields["allowed"].split(",") if who.strip())
    return Place(name, holder, allowed, fields["changed"], tuple(found))


def _resource(name: str, text: str) -> Resource:
    try:
        told = ast.literal_eval(text.strip())
        return Resource(name, str(told["cls"]), bool(told["avail"]), dict(told["params"]))
    except (SyntaxError, LookupError, TypeError) as error:
        raise ValueError(text) from error


# -- the client ------------------------------------------------------------------------------------


class SilentError(KsmhostError):
    """There was no answer: what was asked may have been done all the same."""


def find_client(environment: Mapping[str, str] = os.environ) -> str | None:
    """The client's path: the one that is named, or the one on the PATH."""
    named = environment.get(CLIENT_VARIABLE)
    return shutil.which(named or CLIENT, path=environment.get("PATH"))


class Client:
    """`labgrid-client` for one place. All methods raise KsmhostError for what the world does."""

    def __init__(self, name: PlaceName, patience: Patience) -> None:
        self._name = name
        self._patience = patience

    async def show(self) -> Place:
        """The place as it is now. NO_BOARD if there is none of that very name."""
        said = await self._call("show", within_s=self._patience.call_s)
        try:
            place = parse_show(said)
        except ValueError as error:
            raise KsmhostError(
                f"labgrid-client says of the place {self._name.place} what is not understood.",
                means="This labgrid may be too old or too new: 26.0 is the one that is tested.",
                todo=f"See what it says: {self.spelled('show')}",
            ) from error
        if place.name != self._name.place and not self._name.place.startswith("+"):
            raise self._unknown(f"labgrid takes it for {place.name}.")
        return place

    async def acquire(self) -> None:
        """Take the place for us alone."""
        await self._call("acquire", within_s=self._patience.call_s)

    async def release(self, holder: str) -> None:
        """Give it back, if it is still `holder` who has it."""
        try:
            await self._call("release-from", holder, within_s=self._patience.call_s)
        except KsmhostError as error:
            if _NOT_HELD not in error.means:
                raise

    async def power_cycle(self) -> None:
        """Switch it off and on."""
        await self._call("power", "cycle", within_s=self._patience.power_s)

    def spelled(self, *words: str) -> str:
        """A command for the user to type."""
        return " ".join((CLIENT, "-x", self._name.coordinator, "-p", self._name.place, *words))

    async def _call(self, *words: str, within_s: float) -> str:
        coordinator, place = self._name.coordinator, self._name.place
        process = await start_leashed(
            (_client(), "-x", coordinator, "-p", place, *words),
            output=subprocess.PIPE,
            env={k: v for k, v in os.environ.items() if k not in _DOES_MORE},
        )
        try:
            async with asyncio.timeout(within_s):
                out, err = await process.communicate()
        except TimeoutError as error:
            raise self._silent(f"No answer within {within_s:.0f} s to '{words[0]}'.") from error
        finally:
            await end_process(process, self._patience.stop_s)
        if process.returncode:
            raise self._failed(words[0], (out + b"\n" + err).decode(errors="replace"))
        return out.decode(errors="replace")

    def _failed(self, verb: str, text: str) -> KsmhostError:
        said = last_words(text)
        if any(words in text for words in _UNREACHABLE):
            return self._silent()
        if _UNKNOWN in said:
            return self._unknown()
        return KsmhostError(
            f"labgrid did not {verb.partition('-')[0]} the place {self._name.place}.",
            means=f"It says: {said.rstrip('.')}.",
            todo=f"See what it has: {self.spelled('show')}",
            code=ExitCode.PORT if verb == "acquire" else ExitCode.FAILURE,
        )

    def _silent(self, means: str = "") -> SilentError:
        return SilentError(
            f"labgrid's coordinator at {self._name.coordinator} cannot be reached.",
            means=means,
            todo=f"Set LG_COORDINATOR to its HOST:PORT, or give {SCHEME}HOST:PORT/PLACE.",
            code=ExitCode.PORT,
        )

    def _unknown(self, means: str = "") -> KsmhostError:
        return KsmhostError(
            f"There is no place {self._name.place} at {self._name.coordinator}.",
            means=means,
            todo=f"See which there are: {CLIENT} -x {self._name.coordinator} places",
            code=ExitCode.NO_BOARD,
        )


def last_words(text: str) -> str:
    """What the client said last, without its own name before it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return _PREFIX.sub("", lines[-1]) if lines else "nothing"


def _client() -> str:
    found = find_client()
    if found is None:
        raise KsmhostError(
            f"{os.environ.get(CLIENT_VARIABLE) or CLIENT} is missing.",
            means="The boards of a lab are reached through it.",
            todo=f"{INSTALL}; not into ksmhost's own environment, whose pyserial it would break. "
            f"Elsewhere than on the PATH: {CLIENT_VARIABLE}=/path/to/{CLIENT}",
            code=ExitCode.MISSING_TOOL,
        )
    return found


def _no_serial(place: Place) -> KsmhostError:
    kinds = ", ".join(dict.fromkeys(resource.kind for resource in place.resources))
    return KsmhostError(
        f"The place {place.name} has no serial port.",
        means=f"It has: {kinds}." if kinds else "It has nothing: is its exporter running?",
        todo=f"Add one: {CLIENT} -p {place.name} add-match EXPORTER/GROUP/{_SERIAL}",
        code=ExitCode.PORT,
    )
