# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Short ways to write a request and to read its outcome."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from typing import Any, Final, TypeAlias

from tests.functional.harness import PATIENCE, Daemon, Json

Request: TypeAlias = tuple[str, Json]
Value: TypeAlias = str | bool | int


def cores(count: int, **more: Any) -> Request:
    return "allocate_cores", {"num_of_cores": count, **more}


def numa(node: int, count: int, **more: Any) -> Request:
    return "allocate_numa_cores", {"numa_node": node, "num_of_cores": count, **more}


def percent(share: int, **more: Any) -> Request:
    return "allocate_cores_percent", {"percent": share, **more}


def outcome(answer: Json) -> str:
    """The CPUs of an answer, with the withheld ones after "+", or the option that refuses."""
    if "error" in answer:
        rule = re.search(r"([a-z][a-z0-9_-]+)=", answer["error"])
        return f"refused by {rule[1].replace('_', '-')}" if rule else "refused"
    cpus = answer["allocated_cores" if "allocated_cores" in answer else "cores_allocated"]
    kept = answer.get("placement", {}).get("withheld_cpus")
    return f"{cpus} + {kept}" if kept else cpus


def ask(daemon: Daemon, request: Request, **more: Any) -> Json:
    return daemon.call(request[0], **{"service_name": "svc", **request[1], **more})


NUMA_REFUSES: Final = "refused by numa-policy"
THREADS_REFUSE: Final = "refused by cpu-thread-policy"
CACHES_REFUSE: Final = "refused by uncore-cache-alignment"


def begin(daemon: Daemon, held: dict[str, str]) -> None:
    """Let the daemon hold exactly these claims, made under the default settings."""
    daemon.release_everything()
    for service, cpus in held.items():
        daemon.hold(service, cpus)


def tables(daemon: Daemon) -> dict[str, list[Any]]:
    """The rows of all tables in the database."""
    with sqlite3.connect(f"file:{daemon.common / 'state.db'}?mode=ro", uri=True) as db:
        found = {name: db.execute(f"SELECT * FROM {name}").fetchall() for name in ("claim", "hugepages", "event")}
    db.close()
    return found


def history(daemon: Daemon) -> list[Json]:
    shown = subprocess.run(
        [sys.executable, "-m", "epa_orchestrator", "history", "--json", "--limit", "9999"],
        env=daemon.environment, capture_output=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    return json.loads(shown.stdout)
