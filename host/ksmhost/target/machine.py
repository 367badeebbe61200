# SPDX-License-Identifier: Apache-2.0
"""What an emulator is to run: a board's build, and how it is to start."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ksmhost.board import Board, Emulator
from ksmhost.board.fat import read_fat
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.target.emulated_pi import EmulatedPi, model_of, prepare_pi
from ksmhost.videocore import Card, PiModel

_LOADER = "u-boot.bin"
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Machine:
    """The board, where its build is, and how it starts."""

    board: Board
    build: Path
    direct: bool = False
    """Straight into the kernel, past the boot loader."""
    disk: Path | None = None
    """A disk that keeps what is written, made from the image when it is not there yet."""
    model: str = ""
    """Which of the board's models, where its image serves several; "" for the first."""

    @property
    def emulator(self) -> Emulator:
        """The board's emulator; KsmhostError when it has none."""
        if self.board.emulator is None:
            raise KsmhostError(f"The board {self.board.name} has no emulator.", code=ExitCode.USAGE)
        return self.board.emulator

    @property
    def loads(self) -> bool:
        """True if a boot loader runs before the kernel."""
        return not self.direct and bool(self.emulator.args)

    def arguments(self) -> tuple[str, ...]:
        """The emulator's arguments for this way of starting, place-holders and all."""
        args = self.emulator.args + self.emulator.direct_args
        if self.disk is not None and not any("{sdcard}" in arg for arg in args):
            raise KsmhostError(
                f"{self.board.name} has no disk.", todo="Leave --disk away.", code=ExitCode.USAGE
            )
        if self.loads:
            return self.emulator.args
        if not self.emulator.direct_args:
            raise KsmhostError(
                f"{self.board.name} has no direct boot.",
                todo="Leave --direct away: it boots through its boot loader.",
                code=ExitCode.USAGE,
            )
        return self.emulator.direct_args

    @property
    def pi(self) -> PiModel | None:
        """The Raspberry Pi whose firmware has to be acted out; None where there is none."""
        models = self.board.boot.models if self.board.boot else ()
        if self.model and not models:
            raise KsmhostError(
                f"{self.board.name} has no models to choose from.",
                todo="Leave --model away.",
                code=ExitCode.USAGE,
            )
        return model_of(models, self.board.name, self.model) if models else None

    def product(self, name: str) -> Path:
        """A file of the build; KsmhostError (BUILD) when it was not built, or is cut short."""
        path = self.build / name
        if not path.is_file():
            raise KsmhostError(
                f"{path} is not there.",
                means=f"{self.board.name} is not built, or not with this engine and variant.",
                todo=f"Build it: {self.board.build_command(self.build)}",
                code=ExitCode.BUILD,
            )
        self._check_size(path)
        return path

    def _check_size(self, path: Path) -> None:
        built_bytes, size_bytes = self._built_bytes(path.name), path.stat().st_size
        if built_bytes not in (None, size_bytes):
            raise KsmhostError(
                f"{path} has {size_bytes} bytes; the build made {built_bytes}.",
                means="It was cut short, or a build after it did not finish.",
                todo=f"Delete it and build it anew: {self.board.build_command(self.build)}",
                code=ExitCode.BUILD,
            )

    def _built_bytes(self, name: str) -> int | None:
        """The size that the build's manifest gives a product; None when it gives none."""
        try:
            return int(self._manifest()["files"][name]["size_bytes"])
        except (ValueError, LookupError, TypeError):
            return None

    def command_line(self) -> str:
        """The kernel's, as the boot loader would pass it on; the board's own without a manifest."""
        return str(self._manifest().get("cmdline", self.board.kernel.cmdline))

    def _manifest(self) -> dict[str, Any]:
        try:
            found = json.loads((self.build / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class Start:
    """All that an emulator is started with."""

    arguments: list[str]
    notes: tuple[str, ...] = ()
    """What the user should read about it."""


async def filled_arguments(machine: Machine, folder: Path) -> list[str]:
    """The emulator's arguments with every place-holder replaced.

    `folder` takes files that have to be copied out of the image.
    """
    return [await filled(argument, machine, folder) for argument in machine.arguments()]


async def prepare(machine: Machine, folder: Path) -> Start:
    """All that the emulator is started with.

    `folder` takes files that the emulator reads. A Raspberry Pi's firmware is acted out here:
    KsmhostError where a board would stop.
    """
    model = machine.pi if machine.loads else None
    arguments = await filled_arguments(machine, folder)
    if model is None:
        return Start(arguments)
    pi = await _pi(machine, model, folder)
    return Start([*arguments, *pi.arguments], pi.notes)


async def _pi(machine: Machine, model: PiModel, folder: Path) -> EmulatedPi:
    image = Path(await _disk(machine, folder))
    return await asyncio.to_thread(prepare_pi, image, model, machine.board.memory_bytes, folder)


async def filled(argument: str, machine: Machine, folder: Path) -> str:
    """One argument with its place-holders replaced. Products are looked up only when used."""
    for name, value in _VALUES.items():
        place = f"{{{name}}}"
        if place in argument:
            argument = argument.replace(place, await value(machine, folder))
    return argument


async def _disk(machine: Machine, _: Path) -> str:
    image = machine.product("sdcard.img")
    if machine.disk is None:
        return str(image)
    if not machine.disk.exists():
        await asyncio.to_thread(_make_disk, image, machine.disk)
    return str(machine.disk)


def _make_disk(image: Path, disk: Path) -> None:
    """Copy the image, whole or not at all."""
    draft = disk.with_name(f"{disk.name}.new")
    try:
        shutil.copyfile(image, draft)
        draft.replace(disk)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise KsmhostError(
            f"The disk {disk} cannot be made: {error.strerror}.",
            todo=f"It takes {image.stat().st_size // _MIB} MiB in a folder that is there.",
        ) from error


async def _loader(machine: Machine, folder: Path) -> str:
    """The boot loader as the image holds it; the build's own where the image holds none."""
    if machine.board.image is not None:
        content = Card(await asyncio.to_thread(read_fat, Path(await _disk(machine, folder))))
        loader = content.read(_LOADER)
        if loader is not None:
            (folder / _LOADER).write_bytes(loader)
            return str(folder / _LOADER)
    return str(machine.product(_LOADER))


async def _kernel(machine: Machine, _: Path) -> str:
    return str(machine.product(machine.board.kernel.target))


async def _initramfs(machine: Machine, _: Path) -> str:
    return str(machine.product("initramfs.cpio"))


async def _cmdline(machine: Machine, _: Path) -> str:
    return machine.command_line()


async def _memory(machine: Machine, _: Path) -> str:
    return str(machine.board.memory_bytes // _MIB)


_VALUES: dict[str, Callable[[Machine, Path], Awaitable[str]]] = {
    "sdcard": _disk,
    "uboot": _loader,
    "kernel": _kernel,
    "initramfs": _initramfs,
    "cmdline": _cmdline,
    "memory_mib": _memory,
}
