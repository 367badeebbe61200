# SPDX-License-Identifier: Apache-2.0
"""config.txt as the firmware reads it: format, filters, include. One table for each section of
Raspberry Pi's page "config.txt"."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmhost.videocore import MODELS, Card, find_model
from ksmhost.videocore.config_txt import LINE_BYTES, Board, Config, read_config
from ksmhost.videocore.findings import Findings
from ksmhost.videocore.rules import Rule


def read(
    text: str,
    model: str = "4b",
    *,
    includes: bool = True,
    serial: int = 0,
    **files: str,
) -> tuple[Config, list[tuple[Rule, str]]]:
    content = {"config.txt": text, **files}
    found = Findings()
    chosen = find_model(model)
    board = Board(chosen, next(iter(chosen.revisions.values())), serial)
    card = Card({name.replace("_txt", ".txt"): text.encode() for name, text in content.items()})
    config = read_config(card, board, found, includes=includes)
    return config, [(warning.rule, warning.what) for warning in found.warnings]


@pytest.mark.parametrize(
    ("text", "kernel"),
    [
        ("kernel=a", "a"),
        ("kernel=a\nkernel=b", "b"),
        ("#kernel=a", ""),
        ("  # kernel=a", ""),
        ("kernel=a # no comment", "a # no comment"),
        ("kernel=a\r\n", "a"),
        ("kernel=", ""),
        ("kernel=a=b", "a=b"),
    ],
)
def test_file_format(text: str, kernel: str) -> None:
    """Section "File format"."""
    config, wrong = read(text)
    assert (config.text("kernel"), wrong) == (kernel, [])


@pytest.mark.parametrize("line", ["kernel", "kernel =a", "kernel: a", "Kernel=a", "gpu_memm=16"])
def test_what_is_no_known_setting_is_told(line: str) -> None:
    config, wrong = read(line)
    assert config.text("kernel") == ""
    assert [rule for rule, _ in wrong] == [Rule.FORMAT]
    assert line.partition("=")[0] in wrong[0][1] and "config.txt:1" in wrong[0][1]


def test_behind_98_characters_a_line_ends() -> None:
    """Section "File format": the 98-character limit."""
    name = "k" * (LINE_BYTES - len("kernel="))
    assert read(f"kernel={name}")[0].text("kernel") == name
    config, wrong = read(f"kernel={name}tail")
    assert config.text("kernel") == name
    assert [rule for rule, _ in wrong] == [Rule.LINE_LENGTH]
    assert read(f"#{'c' * 200}\nkernel={name}   ")[1] == []


FILTERS = {
    "pi1": (),
    "pi2": (),
    "pi3": ("3b", "3b+", "3a+"),
    "pi3+": ("3b+", "3a+"),
    "pi4": ("4b", "400", "cm4"),
    "pi400": ("400",),
    "cm4": ("cm4",),
    "cm4s": (),
    "pi0": ("zero2w",),
    "pi0w": ("zero2w",),
    "pi02": ("zero2w",),
    "all": tuple(MODELS),
    "none": (),
    "tryboot": (),
    "EDID=VSC-TD2220": (),
    "board-type=0x14": ("cm4",),
    "board-type=0x11": ("4b",),
    "board-type=18": ("zero2w",),
    "0x12345678": (),
    "0xabcd": tuple(MODELS),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", FILTERS)
def test_filters(name: str, model: str) -> None:
    """Section "Conditional filters", table "Model filters" and what follows it."""
    config, wrong = read(f"[{name}]\nkernel=a", model, serial=0xABCD)
    assert (config.text("kernel") == "a") == (model in FILTERS[name])
    assert not wrong


@pytest.mark.parametrize(
    ("text", "applies"),
    [
        ("[pi3]\n[pi4]", True),  # of one kind: the last counts
        ("[pi4]\n[pi3]", False),
        ("[board-type=0x14]\n[pi4]", True),
        ("[none]\n[pi4]", False),  # of two kinds: both count
        ("[EDID=X]\n[pi4]", False),
        ("[0xabcd]\n[pi4]", True),
        ("[0x1]\n[pi4]", False),
        ("[none]\n[all]", True),
        ("[EDID=X]\n[pi3]\n[all]", True),
        (" [pi4]", True),
    ],
)
def test_filters_combine(text: str, applies: bool) -> None:
    """Section "Combining conditional filters"."""
    config, wrong = read(f"{text}\nkernel=a", "4b", serial=0xABCD)
    assert (config.text("kernel") == "a") == applies
    assert not wrong


@pytest.mark.parametrize("name", ["pi02w", "gpio4=1", "HDMI:0", "Pi4", "", "pi4"])
def test_a_filter_that_cannot_be_judged_is_told(name: str) -> None:
    line = f"[{name}]" if name != "pi4" else "[pi4"
    config, wrong = read(f"{line}\nkernel=a")
    assert [rule for rule, _ in wrong] == [Rule.FILTERS]
    assert (config.text("kernel") == "a") == (name == "pi4")


def test_include_is_for_the_firmware_only() -> None:
    """Section "include": the boot code does not know it."""
    text, more = "include more.txt\nkernel=a", "[pi3]\nkernel=never\n[pi4]\ncmdline=b"
    config, wrong = read(text, more_txt=more)
    assert (config.text("kernel"), config.text("cmdline"), wrong) == ("a", "b", [])
    config, wrong = read(text, includes=False, more_txt=more)
    assert (config.text("kernel"), config.text("cmdline"), wrong) == ("a", "", [])


def test_what_the_boot_code_takes_does_not_count_in_an_included_file() -> None:
    """Section "include", the note with the list of such settings."""
    config, wrong = read("include more.txt", includes=False, more_txt="gpu_mem=16")
    assert config.number("gpu_mem", 76) == 76 and not wrong
    assert [rule for rule, _ in read("include more.txt", more_txt="gpu_mem=16")[1]] == [
        Rule.INCLUDE
    ]


@pytest.mark.parametrize("text", ["include gone.txt", "include config.txt"])
def test_an_include_that_leads_nowhere_is_told(text: str) -> None:
    config, wrong = read(f"{text}\nkernel=a")
    assert config.text("kernel") == "a"
    assert {rule for rule, _ in wrong} == {Rule.INCLUDE}


def test_orders_for_the_tree_keep_their_order() -> None:
    config, _ = read("dtoverlay=a,x=1\ndtparam=y=2\ndevice_tree_overlay=b\ndevice_tree_param=z")
    assert [(order.kind, order.words) for order in config.orders] == [
        ("dtoverlay", ["a", "x=1"]),
        ("dtparam", ["y=2"]),
        ("dtoverlay", ["b"]),
        ("dtparam", ["z"]),
    ]


@pytest.mark.parametrize(
    ("value", "number"), [("32", 32), ("0x20", 32), ("-1", -1), ("x", 7), ("", 7), ("3 2", 7)]
)
def test_numbers(value: str, number: int) -> None:
    assert read(f"gpu_mem={value}")[0].number("gpu_mem", 7) == number


@given(st.binary(max_size=400))
def test_no_file_upsets_the_reader(content: bytes) -> None:
    model = find_model("4b")
    for includes in (False, True):
        read_config(
            Card({"config.txt": content}), Board(model, 0xB03115), Findings(), includes=includes
        )


KEYS = st.sampled_from(["kernel", "cmdline", "armstub", "os_prefix"])
VALUES = st.text("abc./=-", max_size=12)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("set"), KEYS, VALUES),
            st.tuples(st.just("filter"), st.sampled_from(list(FILTERS)), st.just("")),
            st.tuples(st.just("comment"), KEYS, VALUES),
        ),
        max_size=20,
    ),
    st.sampled_from(list(MODELS)),
)
def test_the_last_setting_that_applies_counts(
    lines: list[tuple[str, str, str]], model: str
) -> None:
    """Against a reading of the rules that knows no more than the table above."""
    written = {
        "set": "{0}={1}",
        "filter": "[{0}]",
        "comment": "#{0}={1}",
    }
    text = "\n".join(written[kind].format(key, value) for kind, key, value in lines)
    config, wrong = read(text, model, serial=0xABCD)
    wanted: dict[str, str] = {}
    last: dict[str, str] = {}
    for kind, key, value in lines:
        if kind == "filter":
            sort = key.partition("=")[0] if key in ("none", "tryboot") or "EDID" in key else "model"
            sort = "serial" if key.startswith("0x") else sort
            last = {} if key == "all" else last | {sort: key}
        elif kind == "set" and all(model in FILTERS[name] for name in last.values()):
            wanted[key] = value
    assert {key: setting.value for key, setting in config.settings.items()} == wanted
    assert not wrong
