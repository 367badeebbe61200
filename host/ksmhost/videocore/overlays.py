# SPDX-License-Identifier: Apache-2.0
"""The device tree and its overlays, merged as the firmware does, as far as libfdt can.

The firmware's overlays know more than libfdt's: parameters, fragments that are off until a
parameter turns them on, labels that are exported. A card that needs one of these is refused: going
on without would show what no Pi does.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.videocore.card import Card
from ksmhost.videocore.config_txt import TreeOrder
from ksmhost.videocore.fdt import FdtError, Node, Tree, pack, parse
from ksmhost.videocore.findings import Findings, cannot
from ksmhost.videocore.os_files import Prefixes
from ksmhost.videocore.rules import Rule

_TOOL_S = 30.0
_MAP = "overlay_map.dtb"
_WITHOUT_TREE = "a Pi would start the kernel without a device tree"
_SIMPLER = "Write what it should do into the tree, or into an overlay of its own."


class _MergeError(Exception):
    """An overlay does not merge: the firmware gives the tree up."""


def load_tree(
    card: Card, path: str, orders: list[TreeOrder], prefixes: Prefixes, findings: Findings
) -> Tree | None:
    """The tree at `path` with its overlays; None, and a warning, where the firmware does without.

    Raises KsmhostError for what the stand-in cannot do.
    """
    content = card.read(path)
    if content is None:
        findings.warn(Rule.BROKEN_TREE, f"{path} is missing on the card: {_WITHOUT_TREE}.")
        return None
    try:
        return _Merge(card, parse(content), prefixes, findings).all(orders)
    except FdtError as error:
        findings.warn(Rule.BROKEN_TREE, f"{path} is no device tree, {error}: {_WITHOUT_TREE}.")
    except _MergeError as error:
        findings.warn(Rule.BROKEN_TREE, f"{error}: {_WITHOUT_TREE}.")
    return None


class _Merge:
    def __init__(self, card: Card, base: Tree, prefixes: Prefixes, findings: Findings) -> None:
        self._card = card
        self._tree = base
        self._prefixes = prefixes
        self._findings = findings
        self._scope: frozenset[str] = frozenset()
        """The parameters of the overlay that came last."""

    def all(self, orders: list[TreeOrder]) -> Tree:
        """Follow each order."""
        for order in orders:
            if order.kind == "dtparam":
                self._parameters(order.words, order.place)
            else:
                self._overlay(order)
        return self._tree

    def _parameters(self, words: list[str], place: str) -> None:
        for word in words:
            name = word.partition("=")[0]
            if name in self._scope | _parameters_of(self._tree.root):
                raise cannot(Rule.OVERLAYS, f"{place} sets the parameter '{name}'.", todo=_SIMPLER)
            self._findings.warn(
                Rule.SKIPPED, f"{place} sets '{name}', which is no parameter here: it is skipped."
            )

    def _overlay(self, order: TreeOrder) -> None:
        self._scope = frozenset()
        if not order.words:
            return
        name, *parameters = order.words
        self._check_map(name, order.place)
        path = self._prefixes.overlay(name)
        content = self._card.read(path)
        if content is None:
            self._findings.warn(
                Rule.SKIPPED, f"{order.place} names {path}, which is not there: it is skipped."
            )
            return
        self._apply(path, content)
        self._parameters(parameters, order.place)

    def _apply(self, path: str, content: bytes) -> None:
        try:
            overlay = parse(content)
        except FdtError as error:
            raise _MergeError(f"{path} is no overlay, {error}") from error
        self._scope = _parameters_of(overlay.root)
        _check_simple(path, overlay.root)
        if self._tree.root.at("/__symbols__") is None:
            raise cannot(
                Rule.OVERLAYS,
                f"{path} is for a tree that has no symbols.",
                todo="Compile the tree with symbols: dtc -@",
            )
        overlay.root.children.pop("__symbols__", None)
        self._tree = _merged(path, self._tree, overlay)

    def _check_map(self, name: str, place: str) -> None:
        content = self._card.read(f"{self._prefixes.overlays}{_MAP}")
        if content is not None and name.encode() in content:
            raise cannot(
                Rule.OVERLAYS,
                f"{place}: '{name}' is in {_MAP}, which may take another overlay for it.",
                todo=f"Take {_MAP} off the card.",
            )


def _parameters_of(root: Node) -> frozenset[str]:
    overrides = root.at("/__overrides__")
    return frozenset(overrides.properties if overrides else ())


def _check_simple(path: str, root: Node) -> None:
    """Refuse what libfdt does otherwise than the firmware."""
    found = {
        "exports labels": "__exports__" in root.children,
        "has fragments that are off": any(
            "__dormant__" in fragment.children for fragment in root.children.values()
        ),
        "has fragments that change each other": any(
            "target" in fragment.properties
            for fragment in (root.at("/__local_fixups__") or Node()).children.values()
        ),
    }
    for what, is_so in found.items():
        if is_so:
            raise cannot(Rule.OVERLAYS, f"{path} {what}.", todo=_SIMPLER)


def _merged(path: str, base: Tree, overlay: Tree) -> Tree:
    """The tree with an overlay, by the program that comes with dtc."""
    with tempfile.TemporaryDirectory(prefix="ksmhost-overlay-") as name:
        folder = Path(name)
        (folder / "base").write_bytes(pack(base))
        (folder / "overlay").write_bytes(pack(overlay))
        command = ["fdtoverlay", "-i", "base", "-o", "merged", "overlay"]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=_TOOL_S, check=False
            )
        except FileNotFoundError as error:
            raise KsmhostError(
                "fdtoverlay is missing.",
                todo="sudo apt install device-tree-compiler",
                code=ExitCode.MISSING_TOOL,
            ) from error
        if done.returncode != 0:
            said = (done.stderr.strip() or "for no reason it gave").splitlines()[-1]
            raise _MergeError(f"{path} does not merge into the tree, {said}")
        return parse((folder / "merged").read_bytes())
