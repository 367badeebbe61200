# SPDX-License-Identifier: Apache-2.0
"""Whose memory is whose: the VideoCore's share, and the banks that are left to the ARM."""

from __future__ import annotations

from dataclasses import dataclass

from ksmhost.videocore.config_txt import Config
from ksmhost.videocore.findings import Findings
from ksmhost.videocore.models import BCM2711, MIB, PiModel
from ksmhost.videocore.rules import Rule

GIB = 1024 * MIB
CUT_DOWN_BELOW_MIB = 32
_LEAST_GPU_MIB, _LEAST_TOTAL_MIB = 16, 128
_PERIPHERALS_AT = 0xFC000000
"""Where a BCM2711's memory below 4 GiB ends for the ARM."""
_PIECE_BYTES = 2 * GIB
"""The largest bank that one 32-bit cell can tell in a round number."""


@dataclass(frozen=True, slots=True)
class Bank:
    """A piece of memory."""

    start: int
    size_bytes: int

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.start + self.size_bytes


@dataclass(frozen=True, slots=True)
class Split:
    """How a board's memory is divided."""

    total_bytes: int
    gpu_mib: int

    @property
    def gpu(self) -> Bank:
        """The VideoCore's share: the end of the first GiB, or of what there is."""
        end = min(self.total_bytes, GIB)
        return Bank(end - self.gpu_mib * MIB, self.gpu_mib * MIB)

    def arm(self, model: PiModel) -> tuple[Bank, ...]:
        """The ARM's banks, as the firmware tells them."""
        banks = [Bank(0, self.gpu.start)]
        if model.soc == BCM2711:
            banks.append(Bank(GIB, min(self.total_bytes, _PERIPHERALS_AT) - GIB))
            starts = range(4 * GIB, self.total_bytes, _PIECE_BYTES)
            banks += [Bank(at, min(_PIECE_BYTES, self.total_bytes - at)) for at in starts]
        return tuple(bank for bank in banks if bank.size_bytes > 0)


def split_memory(config: Config, installed_bytes: int, findings: Findings) -> Split:
    """How config.txt divides a board's memory."""
    installed_mib = installed_bytes // MIB
    total_mib = config.number("total_mem", installed_mib)
    total_mib = min(max(total_mib, _LEAST_TOTAL_MIB), installed_mib)
    key, gpu_mib = _gpu_mem(config, total_mib)
    if gpu_mib > total_mib // 2:
        findings.warn(
            Rule.GPU_MEM,
            f"{config.place(key)} takes {gpu_mib} of {total_mib} MiB for the VideoCore: "
            "Linux may not boot.",
        )
        gpu_mib = min(gpu_mib, total_mib - _LEAST_GPU_MIB)
    return Split(total_mib * MIB, max(gpu_mib, _LEAST_GPU_MIB))


def gpu_mem_of(config: Config, total_bytes: int) -> int:
    """The VideoCore's share in MiB as config.txt asks for it, before it is bounded."""
    return _gpu_mem(config, total_bytes // MIB)[1]


def gpu_mem_key(config: Config, total_bytes: int) -> str:
    """The setting that decides about the VideoCore's share."""
    return _gpu_mem(config, total_bytes // MIB)[0]


def _gpu_mem(config: Config, total_mib: int) -> tuple[str, int]:
    default = 64 if total_mib < 1024 else 76
    sized = {256: "gpu_mem_256", 512: "gpu_mem_512"}.get(total_mib, "")
    key = "gpu_mem_1024" if total_mib >= 1024 else sized
    if key not in config.settings:
        key = "gpu_mem"
    return key, config.number(key, default)
