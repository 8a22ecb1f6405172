# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Random requests, hotplug, options and failing disks: what a watching client knows is what a listing says."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from pathlib import Path

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.daemon.current import State
from epa_orchestrator.daemon.orchestrator import Orchestrator
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from epa_orchestrator.state import database_files, opening
from tests.unit.daemon.serving import LIST, PEER, SHAPE, Answer, Counting, ask
from tests.unit.daemon.test_serving_randomly import REQUESTS
from tests.unit.daemon.watching import Watching
from tools.synthetic import build

OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "cpu-pool": st.sampled_from(["0-1", "8-9", "2"]),
        "reserved-cpus": st.sampled_from(["2", "10-11"]),
        "cpu-thread-policy": st.sampled_from(["isolate", "require"]),
    },
)


class ChangingSysfs(RecordedSysfs):
    """A recorded machine that becomes another one."""

    def become(self, offline: str) -> None:
        RecordedSysfs.__init__(self, build(dataclasses.replace(SHAPE, offline=offline)))


class Story(RuleBasedStateMachine):
    """Whatever happens, every watching client knows what a listing says, from whenever on it watches."""

    orchestrator: Orchestrator
    store: Counting

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory()
        self.clients: list[Watching] = []
        self.sysfs = ChangingSysfs(build(SHAPE))
        self.runner.run(self._start())

    async def _start(self) -> None:
        path = Path(self.directory.name) / database_files.FILE_NAME
        opening.create(path, Ledger(), PEER, 1.0)
        opened, loaded = opening.open_store(path)
        self.store = Counting(opened._db, path, loaded.checksum, opened._lock)
        settings = parse_settings({})
        host = Host(self.sysfs, settings, loaded.seen)
        self.orchestrator = Orchestrator(host, settings, State(loaded.ledger, self.store, None))

    def ask(self, *requests: Answer) -> list[Answer]:
        return self.runner.run(ask(self.orchestrator, *requests))

    @rule(pool=st.sampled_from(["isolated", "general"]))
    def watch(self, pool: str) -> None:
        client = Watching(self.orchestrator)
        if "error" not in self.runner.run(client.begin(pool)):
            self.clients.append(client)

    @rule(data=st.data())
    def watch_amid_changes(self, data: st.DataObject) -> None:
        requests = data.draw(st.lists(REQUESTS, min_size=1, max_size=3))
        client = Watching(self.orchestrator)

        async def both() -> None:
            await asyncio.gather(
                ask(self.orchestrator, *requests), client.begin(), ask(self.orchestrator, *reversed(requests))
            )

        self.runner.run(both())
        self.clients.append(client)

    @rule(data=st.data())
    def change(self, data: st.DataObject) -> None:
        self.ask(*data.draw(st.lists(REQUESTS, min_size=1, max_size=4)))

    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        self.store.broken = True
        self.ask(*data.draw(st.lists(REQUESTS, min_size=1, max_size=3)))
        self.store.broken = False

    @rule(options=OPTIONS)
    def use(self, options: dict[str, str]) -> None:
        async def use() -> None:
            self.orchestrator.use(parse_settings(options))

        self.runner.run(use())

    @rule(offline=st.sampled_from(["", "7", "3,11", "10"]))
    def plug(self, offline: str) -> None:
        self.sysfs.become(offline)

    @rule(number=st.integers(0, 20))
    def leave(self, number: int) -> None:
        if number < len(self.clients):
            self.orchestrator.watchers.remove(self.clients.pop(number))

    @invariant()
    def clients_know_what_a_listing_says(self) -> None:
        if not hasattr(self, "store"):
            return
        listings = self.ask(LIST, LIST | {"pool": "general"})
        self.runner.run(self._look())
        for client in self.clients:
            client.take()
            for listing in listings:
                client.replica.check(listing)

    async def _look(self) -> None:
        """What happens once a second."""
        self.orchestrator._feed.look()

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.orchestrator.close()
            self.runner.close()
            self.directory.cleanup()


TestStory = Story.TestCase


TestStory.settings = hypothesis_settings(max_examples=40, stateful_step_count=25, deadline=None)
