# SPDX-License-Identifier: Apache-2.0
"""The FIT that U-Boot starts: kernel, device tree and initramfs, each with the hash it checks.

Slots and the rescue system are made the same way; docs/IMAGE.md describes it.
"""

from __future__ import annotations

from pathlib import Path

from ksmhost.board import Board

_FIT = """\
/dts-v1/;

/ {{
	description = "{board}";
	#address-cells = <1>;

	images {{
		kernel {{
			data = /incbin/("{kernel}");
			type = "kernel";
			arch = "arm64";
			os = "linux";
			compression = "{compression}";
			load = <{kernel_address:#x}>;
			entry = <{kernel_address:#x}>;
			hash-1 {{ algo = "sha256"; }};
		}};
{device_tree}
		initramfs {{
			data = /incbin/("{initramfs}");
			type = "ramdisk";
			arch = "arm64";
			os = "linux";
			compression = "none";
			hash-1 {{ algo = "sha256"; }};
		}};
	}};

	configurations {{
		default = "conf";
		conf {{
			kernel = "kernel";
			{fdt}ramdisk = "initramfs";
			bootargs = "{cmdline}";
		}};
{emulated}	}};
}};
"""

_FIT_TREE = """\
		{name} {{
			data = /incbin/("{dtb}");
			type = "flat_dt";
			arch = "arm64";
			compression = "none";
			load = <{address:#x}>;
			hash-1 {{ algo = "sha256"; }};
		}};
"""

_FIT_EMULATED = """\
		conf-emulated {{
			kernel = "kernel";
			fdt = {trees};
			ramdisk = "initramfs";
		}};
"""

_OVERLAY_OFFSET = 0x80000


def fit_source(
    cmdline: str,
    board: Board,
    kernel: Path,
    initramfs: Path,
    trees: list[Path],
    compression: str = "none",
) -> str:
    """Return what mkimage makes a FIT of; `compression` is the kernel's.

    `trees` is the board's device tree and, behind it, the overlay for its emulator; either may be
    missing.
    """
    assert board.boot is not None
    names = ["fdt", "fdt-emulated"][: len(trees)]
    first = board.boot.device_tree_address or 0
    blobs = [
        _FIT_TREE.format(name=name, dtb=dtb, address=first + index * _OVERLAY_OFFSET)
        for index, (name, dtb) in enumerate(zip(names, trees, strict=True))
    ]
    listed = ", ".join(f'"{name}"' for name in names)
    return _FIT.format(
        board=board.name,
        compression=compression,
        kernel=kernel,
        initramfs=initramfs,
        kernel_address=board.boot.kernel_address,
        device_tree="".join(blobs),
        fdt='fdt = "fdt";\n\t\t\t' if trees else "",
        cmdline=cmdline,
        emulated=_FIT_EMULATED.format(trees=listed) if trees else "",
    )
