# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Options and a host that change while a daemon serves."""

from __future__ import annotations

import json
import random
import signal
import threading
import time

from tests.functional.harness import Daemon, Json


class Changes(threading.Thread):
    """Changes options, and which CPUs are online or isolated, while no other thread holds the lock `serving`."""

    def __init__(self, daemon: Daemon, seed: int) -> None:
        super().__init__(name="changes", daemon=True)
        self._daemon, self._chance = daemon, random.Random(seed)
        self._isolated = sorted(daemon.host.isolated)
        self._ended = False
        self.serving = threading.Lock()
        self.made = 0

    def run(self) -> None:
        while not self._ended:
            with self.serving:
                if not self._ended:
                    self._change()
                    self.made += 1
            time.sleep(self._chance.uniform(0, 0.02))

    def end(self) -> None:
        """Change nothing from now on, even when the lock comes free."""
        self._ended = True

    def _change(self) -> None:
        chance, daemon = self._chance, self._daemon
        match chance.randrange(4):
            case 0 | 1:
                new = daemon.settings_path.with_suffix(".new")
                new.write_text(json.dumps(_options(chance)))
                new.replace(daemon.settings_path)  # a daemon that starts must not see half of them
                daemon.send_signal(signal.SIGHUP)
            case 2:
                count = chance.choice((0, 1, 5, len(self._isolated) // 4))
                daemon.host.set_offline(chance.sample(self._isolated, count))
            case _:
                count = len(self._isolated) * chance.choice((3, 4, 4)) // 4
                daemon.host.set_isolated(chance.sample(self._isolated, count))


def _options(chance: random.Random) -> Json:
    """Some options that decide which CPUs are chosen, without those that would move claims."""
    options = {name: chance.choice(values) for name, values in _OPTIONS.items()}
    return {name: options[name] for name in chance.sample(sorted(options), 3)}


_OPTIONS = {
    "cpu-thread-policy": ("prefer", "share", "require", "isolate"),
    "numa-policy": ("best-effort", "none", "restricted", "single-numa-node"),
    "numa-allocation-strategy": ("packed", "spread", "distribute"),
    "numa-reclaim": ("if-needed", "always", "never"),
    "default-preemption-policy": ("legacy", "non-preemptive"),
    "uncore-cache-alignment": ("prefer", "none"),
    "reserved-cpus": ("", "", "5-9", "64-70"),
}
