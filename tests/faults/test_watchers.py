# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""200 clients watch, some stuck, slow or leaving, while 64 allocate: others are hardly slowed down, memory is bounded.

`python -m benchmarks.watch` measures longer and more exactly; the bounds here are for a busy machine.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.watch import soak
from tests.functional.harness import Daemon, cpu_seconds, encode
from tests.functional.watching import Watching
from tools.synthetic import Shape

#: The most CPU time of a request with watching clients, in times of that without; about 1.15 was measured.
MOST: Final = 1.6
#: The most memory (MiB) that watching clients may take: what they are behind is shared.
MOST_MIB: Final = 30.0


def test_watching_clients_slow_others_hardly_down(long: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="epa-", dir="/var/tmp") as directory:
        found = soak(Path(directory), rounds=60 if long else 12)
    print(
        f"CPU time {found.cpu_ratio:.2f}, rate {found.rate_ratio:.2f}, memory {found.memory}, {found.dropped} dropped"
    )
    assert found.cpu_ratio < MOST
    assert found.memory[1] - found.memory[0] < MOST_MIB
    assert found.lines > 1000
    assert found.dropped, "the stuck clients stay"


def test_the_first_line_of_many_claims_costs_little(long: bool) -> None:
    """Its parts are encoded once per change, and its bytes are shared by those who wait for it at a time."""
    services = 4000 if long else 1000
    with Daemon(Shape(packages=2, cores_per_l3=services, isolated=f"0-{2 * services - 1}")) as daemon:
        daemon.configure({"max-services": services})
        daemon.start()
        for number in range(services):
            daemon.request(encode("allocate_cores", {"service_name": f"s{number}", "num_of_cores": 1}))
        before = cpu_seconds(daemon.pid)
        clients = [Watching(daemon) for _ in range(50)]
        used = cpu_seconds(daemon.pid) - before
        try:
            assert all(len(each.first["allocations"]) == services for each in clients)
            size = len(json.dumps(clients[0].first))
            print(f"{used / len(clients) * 1e3:.1f} ms for a first line of {size} bytes")
            assert used / len(clients) < 10e-6 * services + 0.002
        finally:
            for each in clients:
                each.client.close()
