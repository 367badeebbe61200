# SPDX-License-Identifier: Apache-2.0
"""What is on a card's FAT partition, as the firmware sees it: names in whatever case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Card:
    """Files by their paths ("overlays/disable-bt.dtbo")."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = {_key(name): content for name, content in files.items()}

    def read(self, name: str) -> bytes | None:
        """A file's content; None when it is not there."""
        return self._files.get(_key(name))

    def __contains__(self, name: str) -> bool:
        return _key(name) in self._files

    def present(self, names: Iterable[str]) -> list[str]:
        """Those of the names that are there."""
        return [name for name in names if name in self]


def _key(name: str) -> str:
    return "/".join(part for part in name.lower().split("/") if part)
