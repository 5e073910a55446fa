# SPDX-License-Identifier: GPL-3.0-or-later
"""Swap on zram for the time of a benchmark, on a machine of its own."""

import contextlib
import pathlib
import re
import subprocess

DEVICE = pathlib.Path("/sys/block/zram0")
SIZE = "24G"    # of what is put there, before it is packed
PACKERS = ["zstd", "lzo-rle", "lz4"]    # the tightest first


def packer():
    """The first of those that the kernel has."""
    there = (DEVICE / "comp_algorithm").read_text()
    return next(p for p in PACKERS if p in re.split(r"[\s\[\]]+", there))


def there_is():
    """Whether the machine has any swap."""
    return len(pathlib.Path("/proc/swaps").read_text().splitlines()) > 1


@contextlib.contextmanager
def swap(own_machine):
    """Makes it if the machine is our own and has none, and undoes it."""
    if not own_machine or there_is() or not DEVICE.exists():
        yield
        return
    (DEVICE / "comp_algorithm").write_text(packer())
    (DEVICE / "disksize").write_text(SIZE)
    try:
        subprocess.run(["mkswap", "/dev/zram0"], check=True,
                       stdout=subprocess.DEVNULL)
        subprocess.run(["swapon", "-d", "-p", "100", "/dev/zram0"], check=True)
        yield
    finally:
        subprocess.run(["swapoff", "/dev/zram0"], check=False)
        (DEVICE / "reset").write_text("1")


def cost():
    """Bytes of memory for a byte in swap: what zram makes of it."""
    try:
        original, _, used = map(
            int, (DEVICE / "mm_stat").read_text().split()[:3])
    except (OSError, ValueError):
        return 1.0 if there_is() else 0.0
    return used / original if original > 1 << 20 else 1.0
