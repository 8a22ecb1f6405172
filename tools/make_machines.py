# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Writes the recorded machines that ship with the package: `python tools/make_machines.py [--check]`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from epa_orchestrator.hardware.sysfs import dump_recording  # noqa: E402  (importable only now, when run as a script)
from tools.generated import write_or_check  # noqa: E402
from tools.synthetic import Device, Shape, all_but_first_cores, build  # noqa: E402

MACHINES: Final = ROOT / "src" / "epa_orchestrator" / "machines"


def _isolating(shape: Shape, housekeeping: int) -> Shape:
    return dataclasses.replace(shape, isolated=all_but_first_cores(shape, housekeeping))


def _network_card(bus: str, node: int, interface: str, virtual_functions: int = 0) -> list[Device]:
    """A network card with virtual functions, whose interfaces are named after the card: `eth0v0`."""
    card = [Device(f"0000:{bus}:00.0", node, interface)]
    return card + [Device(f"0000:{bus}:02.{n}", node, f"{interface}v{n}") for n in range(virtual_functions)]


#: The end of each description.
_MADE: Final = "; made by the epa-orchestrator project from public figures, not captured."

#: File name -> (what it is, its shape).
SHIPPED: Final = {
    # The machine of the pictures of placement.md: `SHAPE` in tools/draw_placement.py, with memory and devices.
    "demo-48": (
        "The machine of the documentation: 2 packages, 4 NUMA nodes, 8 L3 domains of 3 cores, 48 CPUs, all isolated",
        Shape(
            packages=2,
            nodes_per_package=2,
            l3_per_node=2,
            cores_per_l3=3,
            threads_per_core=2,
            isolated="0-47",
            hugepages={2048: (4096, 4096), 1048576: (16, 16)},
            devices=[
                *_network_card("17", 0, "eth0", 2),
                *_network_card("65", 1, "eth1"),
                *_network_card("b1", 2, "eth2", 2),
                Device("0000:31:00.0", 1),  # a drive (NVMe)
                Device("0000:ca:00.0", 3),  # a drive (NVMe)
            ],
            bridges=["br-ex"],
        ),
    ),
    "epyc-9654-2s": (
        "Two AMD EPYC 9654 (24 L3 domains of 8 cores) in mode NPS4, 2 housekeeping cores in every NUMA node",
        _isolating(
            Shape(
                packages=2,
                nodes_per_package=4,
                l3_per_node=3,
                cores_per_l3=8,
                threads_per_core=2,
                l3_ids="scattered",
                hugepages={2048: (4096, 4096), 1048576: (64, 64)},
                devices=[*_network_card("c1", 1, "eth0", 2), *_network_card("81", 6, "eth1", 2)],
                memory_kb=96 << 20,
                l2="1024K",
                l3="32768K",
            ),
            2,
        ),
    ),
    "xeon-8380-2s-snc2": (
        "Two Intel Xeon Platinum 8380 (40 cores each) with sub-NUMA clustering: two NUMA nodes share an L3",
        _isolating(
            Shape(
                packages=2,
                nodes_per_package=2,
                cores_per_l3=20,
                threads_per_core=2,
                l3_scope="package",
                distances=((10, 11, 20, 20), (11, 10, 20, 20), (20, 20, 10, 11), (20, 20, 11, 10)),
                hugepages={2048: (8192, 8192), 1048576: (64, 64)},
                devices=[*_network_card("31", 0, "eth0", 2), *_network_card("b1", 3, "eth1", 2)],
                memory_kb=128 << 20,
                l2="1280K",
                l3="61440K",
            ),
            2,
        ),
    ),
    "altra-q80-1s": (
        "One Ampere Altra Q80-30 (80 cores, no SMT) whose 32 MiB system level cache is reported as L3",
        _isolating(
            Shape(
                cores_per_l3=80,
                hugepages={2048: (8192, 8192), 1048576: (32, 32)},
                devices=_network_card("01", 0, "eth0", 2),
                memory_kb=256 << 20,
                l2="1024K",
                l3="32768K",
            ),
            4,
        ),
    ),
    "vm-8": (
        "A virtual machine with 8 vCPUs (4 cores of 2 threads), 2-7 isolated, 4 GiB of hugepages",
        _isolating(
            Shape(
                cores_per_l3=4,
                threads_per_core=2,
                siblings="adjacent",
                hugepages={2048: (2048, 2048), 1048576: (0, 0)},
                memory_kb=16 << 20,
                l2="512K",
                l3="16384K",
            ),
            1,
        ),
    ),
}


def main() -> int:
    """Write the recordings, or with --check compare them; the exit code is 1 if one is out of date."""
    texts = {
        MACHINES / f"{name}.json": dump_recording(name, description + _MADE, build(shape), {})
        for name, (description, shape) in SHIPPED.items()
    }
    return write_or_check("make_machines.py", __doc__, texts)


if __name__ == "__main__":
    sys.exit(main())
