# SPDX-License-Identifier: Apache-2.0
"""What a place is called, and what labgrid says of it; tests/lab has the rest, with labgrid."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.target.labgrid import (
    CLIENT,
    Client,
    Patience,
    PlaceName,
    last_words,
    parse_show,
)
from ksmhost.target.ports import canonical_port

SHOWN = """\
Place 'rpi4-1':
  aliases: kim:board
  comment: the one by the window
  tags: board=rpi4
  matches:
    rack/desk/*
  acquired: desk/kim
  acquired resources:
    rack/desk/NetworkPowerPort/NetworkPowerPort
    rack/desk/NetworkSerialPort/console
  allowed: desk/kim, bench/jo
  created: 2026-01-01 00:57:26.677710
  changed: 2026-01-01 00:57:29.834084
Orphaned resource 'gone' (other/desk/NetworkSerialPort/gone)
Acquired resource 'NetworkPowerPort' (rack/desk/NetworkPowerPort/NetworkPowerPort):
  {'acquired': 'rpi4-1',
   'avail': True,
   'cls': 'NetworkPowerPort',
   'params': {'extra': {'proxy': 'rack', 'proxy_required': False},
              'host': 'http://pdu/{index}',
              'index': 1,
              'model': 'rest'}}
Acquired resource 'console' (rack/desk/NetworkSerialPort/USBSerialPort):
  {'acquired': 'rpi4-1',
   'avail': True,
   'cls': 'NetworkSerialPort',
   'params': {'extra': {'proxy': 'rack', 'proxy_required': PROXIED},
              'host': 'HOST',
              'port': 51737,
              'speed': 921600}}
"""

_NO_QUOTES = str.maketrans("", "", "'\"")


def _shown(host: str = "rack", proxied: bool = False) -> str:
    return SHOWN.replace("PROXIED", str(proxied)).replace("HOST", host)


def test_a_place_as_labgrid_shows_it() -> None:
    place = parse_show(_shown())
    assert (place.name, place.holder, place.allowed) == (
        "rpi4-1",
        "desk/kim",
        ("desk/kim", "bench/jo"),
    )
    assert place.has_power and place.changed.endswith("834084")
    port = place.serial()
    assert port.served and port.speed == 921600 and port.proxy == ""
    assert port.url == "rfc2217://rack:51737?ign_set_control"
    assert place.serial("console") == port
    assert parse_show(_shown(proxied=True)).serial().proxy == "rack"
    assert parse_show(_shown("fe80::1")).serial().url.startswith("rfc2217://[fe80::1]:51737")
    raw = _shown().replace("'speed': 921600", "'protocol': 'raw'")
    assert parse_show(raw).serial().url == "socket://rack:51737"
    assert not parse_show(_shown().replace("'port': 51737", "'port': None")).serial().served


def test_a_free_place_has_no_holder() -> None:
    free = _shown().replace("acquired: desk/kim", "acquired: None").replace("Acquired", "Matching")
    assert parse_show(free).holder == "" and parse_show(free).serial().speed == 921600


def test_of_several_ports_one_has_to_be_named() -> None:
    block = _shown()[_shown().index("Acquired resource 'console'") :]
    place = parse_show(_shown() + block.replace("console", "bmc"))
    assert place.serial("bmc").name == "bmc"
    for name in ("", "modem"):
        with pytest.raises(KsmhostError, match=r"console, bmc.*labgrid://rpi4-1#console"):
            place.serial(name)


@given(st.text())
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_show(text)
    with pytest.raises(ValueError, match=r".*"):
        parse_show(_shown().replace("'cls'", text.translate(_NO_QUOTES) or "x"))


@given(
    st.sampled_from(("lab.example:20408", "127.0.0.1:1", "[::1]:20408", "ws://lab:20408/ws")),
    st.text(min_size=1).filter(lambda place: place.strip("+") and place.strip("/") == place),
    st.text(),
)
def test_an_address_says_it_all(coordinator: str, place: str, serial: str) -> None:
    name = PlaceName(coordinator, place, serial)
    assert PlaceName.parse(str(name), {"LG_COORDINATOR": "elsewhere"}) == name


def test_the_coordinator_is_where_labgrid_looks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PlaceName.parse("labgrid://a", {}).coordinator == "127.0.0.1:20408"
    assert PlaceName.parse("labgrid://a", {"LG_COORDINATOR": "lab"}).coordinator == "lab"
    old = {"LG_CROSSBAR": "ws://lab:20408/ws"}
    assert PlaceName.parse("labgrid://a", old).coordinator == "ws://lab:20408/ws"
    assert PlaceName.parse("labgrid://lab:7/a#b", old) == PlaceName("lab:7", "a", "b")
    monkeypatch.setenv("LG_COORDINATOR", "lab")
    assert canonical_port("labgrid://a") == canonical_port("labgrid://lab/a") == "labgrid://lab/a"


@pytest.mark.parametrize("port", ["labgrid://", "labgrid:///", "labgrid://+", "labgrid://a?b=c"])
def test_an_address_without_a_place_is_refused(port: str) -> None:
    with pytest.raises(KsmhostError) as refused:
        PlaceName.parse(port, {})
    assert refused.value.code is ExitCode.USAGE and "labgrid://PLACE" in refused.value.todo


def test_the_last_words_of_the_client() -> None:
    said = "labgrid-client: Error: Place a is already acquired by desk/kim.\n\n"
    assert last_words(said) == "Place a is already acquired by desk/kim."
    assert last_words("Server error: Error: no\n") == "no" and last_words("\n") == "nothing"


async def test_without_the_client_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("KSMHOST_LABGRID_CLIENT", raising=False)
    with pytest.raises(KsmhostError) as missing:
        await Client(PlaceName("lab", "a"), Patience()).show()
    assert missing.value.code is ExitCode.MISSING_TOOL and CLIENT in missing.value.what
    assert "pipx install labgrid" in missing.value.todo
