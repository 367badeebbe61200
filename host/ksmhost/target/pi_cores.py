# SPDX-License-Identifier: Apache-2.0
"""The few instructions that an emulated Pi's cores run before the kernel.

On hardware the firmware's stub holds the three secondary cores in WFE until the kernel writes
where each is to go into the spin table. QEMU's own code does so too, but there WFE does not sleep:
three cores of the host would spin until Linux wants them, beside the one that boots. Ours sleep
in WFI, and a timer wakes each to look 256 times a second.
"""

from __future__ import annotations

import struct

from ksmhost.videocore.models import BCM2711, BCM2837

PARK_AT = 0x400
"""Where the secondary cores' code is: within the first page, which the trees keep reserved for the
spin table, and behind what QEMU puts there."""

_STUB = struct.Struct("<10I3Q")
_PARK = struct.Struct("<24I")
_WRITE = struct.Struct("<QQ")
_TIMER_TO_CORE = {
    BCM2711: (
        (0xFF841000, 1),  # GICD_CTLR: pass interrupts on
        (0xFF841100, 1 << 30),  # GICD_ISENABLER0: the physical timer's, each core's own
        (0xFF842004, 0xFF),  # GICC_PMR: of any priority
        (0xFF842000, 1),  # GICC_CTLR
    ),
    BCM2837: tuple((0x40000040 + 4 * core, 1 << 1) for core in range(4)),  # Core timer control
}
"""For each SoC, 32-bit words to write where, for a core's physical timer to end its WFI. Linux sets
the interrupt controllers up anew on each core, before it takes an interrupt there."""


def stub(kernel_at: int, tree_at: int) -> bytes:
    """Code that starts a kernel as a Pi's firmware does: x0 holds the tree, x1 to x3 nothing.

    It sends the secondary cores to `PARK_AT` first, through the spin table.
    """
    return _STUB.pack(
        0x580001C4,  # ldr x4, park_at
        0xD2801C05,  # mov x5, #0xe0
        0xA90010A4,  # stp x4, x4, [x5]
        0xF90008A4,  # str x4, [x5, #16]
        0x58000100,  # ldr x0, tree_at
        0xAA1F03E1,  # mov x1, xzr
        0xAA1F03E2,  # mov x2, xzr
        0xAA1F03E3,  # mov x3, xzr
        0x58000044,  # ldr x4, kernel_at
        0xD61F0080,  # br x4
        kernel_at,
        tree_at,
        PARK_AT,
    )


def park(soc: str) -> bytes:
    """Code that holds a secondary core until its place in the spin table is written."""
    code = _PARK.pack(
        0xD2801B05,  # mov x5, #0xd8
        0xD53800A6,  # mrs x6, mpidr_el1
        0x924004C6,  # and x6, x6, #3
        0x8B060CA5,  # add x5, x5, x6, lsl #3
        0xF90000BF,  # str xzr, [x5]
        0x10000267,  # adr x7, writes
        0xA8C124E8,  # 1: ldp x8, x9, [x7], #16
        0xB4000068,  # cbz x8, 2f
        0xB9000109,  # str w9, [x8]
        0x17FFFFFD,  # b 1b
        0xD53BE008,  # 2: mrs x8, cntfrq_el0
        0xD348FD08,  # lsr x8, x8, #8
        0xD2800029,  # mov x9, #1
        0xD51BE208,  # 3: msr cntp_tval_el0, x8
        0xD51BE229,  # msr cntp_ctl_el0, x9
        0xD503207F,  # wfi
        0xF94000A4,  # ldr x4, [x5]
        0xB4FFFF84,  # cbz x4, 3b
        0xD51BE23F,  # msr cntp_ctl_el0, xzr
        0xAA1F03E0,  # mov x0, xzr
        0xAA1F03E1,  # mov x1, xzr
        0xAA1F03E2,  # mov x2, xzr
        0xAA1F03E3,  # mov x3, xzr
        0xD61F0080,  # br x4
    )
    writes = (*_TIMER_TO_CORE[soc], (0, 0))
    return code + b"".join(_WRITE.pack(*write) for write in writes)
