# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The tables of errors in the protocol's document hold every sentence that the daemon refuses with, and its actions."""

from __future__ import annotations

import json
import os
import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tools.write_protocol import DOCUMENT

from .harness import PATIENCE, READ_TIMEOUT, SMALL, Daemon, connect, decode, error_of, read_to_end
from .other_user import ask_as

TESTS: Final = Path(__file__).parents[1]

GROUPS: Final = {
    "allocating": ("allocate_cores", "allocate_cores_percent", "allocate_numa_cores"),
    "changing": ("allocate_cores", "allocate_cores_percent", "allocate_numa_cores", "allocate_hugepages"),
}
pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")

#: Stands for a request that names no known action.
NO_ACTION: Final = ""

#: A general pool of one core.
SETTINGS: Final = {"cpu-pool": "0,8"}

#: Sentences that take a flood or a broken disk: a part of each, and the file below tests that provokes it.
HELD_ELSEWHERE: Final = {
    "The request came in more than {MAX_PIECES} pieces: send it in one write": "unit/protocol/test_framing.py",
    "Too many connections are open for user ": "unit/daemon/test_server.py",
    "had to make room": "unit/daemon/test_server.py",
    "change all the time: try again": "unit/hardware/test_settled.py",
    "cannot be read: in a snap, run: sudo snap connect": "unit/hardware/test_hugepages.py",
    "Too many changes wait to be stored: try again in a moment": "unit/daemon/test_server.py",
    "watch: close some of them, or try again later": "functional/test_watch.py",
    "Too many requests for the history wait: try again in a moment": "unit/daemon/test_archive.py",
    " seconds, which is the limit": "unit/daemon/test_archive.py",
    "to their end, or try again later": "unit/daemon/test_kept_answers.py",
    "Nothing was changed because the state could not be stored: ": "unit/daemon/test_batch.py",
    "Internal error: nothing was changed; please report it with the daemon's log": "unit/daemon/test_reader.py",
    "can no longer be written, because": "unit/daemon/test_orchestrator.py",
}


class Provoked(NamedTuple):
    """A sentence that an action was refused with."""

    action: str
    sentence: str


def rows() -> dict[str, tuple[str, ...]]:
    """The actions for each sentence of the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    found: dict[str, tuple[str, ...]] = {}
    for table in re.findall(r"^<!-- errors -->\n((?:\|.*\n)+)", text, re.MULTILINE):
        for sentence, actions in re.findall(r"^\| `(.*?)` \| (.*?) \|", table, re.MULTILINE):
            assert sentence not in found, sentence
            names = re.findall(r"\w+", actions)
            found[sentence] = tuple(action for name in names for action in GROUPS.get(name, (name,)))
    return found


def fits(template: str, sentence: str) -> bool:
    """Whether a sentence is one of a row; words in braces stand for any text."""
    pattern = re.sub(r"\\\{\w+\\\}", ".+", re.escape(template))
    return re.fullmatch(pattern, sentence) is not None


def refuse(daemon: Daemon, action: str, **fields: Any) -> Provoked:
    """The sentence that an action of the service `svc` is refused with."""
    return Provoked(action, error_of(daemon.call(action, **({"service_name": "svc"} | fields))))


def refuse_bytes(daemon: Daemon, request: bytes, *, end: bool = False) -> Provoked:
    """The sentence that bytes are refused with; `end` shuts down the client's side after them."""
    with connect(daemon.socket_path) as client:
        client.sendall(request)
        if end:
            client.shutdown(socket.SHUT_WR)
        return Provoked(NO_ACTION, error_of(decode(read_to_end(client))))


def refuse_bad_bytes(daemon: Daemon) -> Iterator[Provoked]:
    with connect(daemon.socket_path) as silent, connect(daemon.socket_path) as slow:
        slow.sendall(b"{")
        yield refuse_bytes(daemon, b"[]")
        yield refuse_bytes(daemon, b"{]")
        yield refuse_bytes(daemon, b'{"action": "' + b"x" * 65_536)
        yield refuse_bytes(daemon, b'{"action"', end=True)
        yield refuse_bytes(daemon, b'{"action": "free"}')
        yield refuse_bytes(daemon, b"{}")
        for unfinished in (silent, slow):
            unfinished.settimeout(READ_TIMEOUT + 10)
            yield Provoked(NO_ACTION, error_of(decode(read_to_end(unfinished))))


#: What a kernel before 6.16 lets the daemon say; a later one refuses descriptors itself.
DESCRIPTORS_CAME: Final = "File descriptors came with the request: send it without any"

#: Becomes somebody else, sends a request with a file descriptor in it, and prints the answer if it could be sent.
STRANGER: Final = """
import array, os, socket, sys
os.setgid(61235)
os.setuid(61234)
client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
client.connect(sys.argv[1])
try:
    socket.send_fds(client, [b"{"], [0])
except PermissionError:
    sys.exit()
print(client.recv(4096).decode())
"""


def refuse_strangers(daemon: Daemon) -> Iterator[Provoked]:
    daemon.base.chmod(0o755)
    daemon.data.chmod(0o755)
    yield Provoked("allocate_cores", error_of(ask_as(daemon, "allocate_cores", {"service_name": "svc"})[1]))
    # The connections of root may carry descriptors: nobody looks at them.
    command = [sys.executable, "-I", "-S", "-c", STRANGER, str(daemon.socket_path)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=PATIENCE, check=True)
    yield Provoked(NO_ACTION, error_of(decode(done.stdout)) if done.stdout else DESCRIPTORS_CAME)


def refuse_bad_fields(daemon: Daemon) -> Iterator[Provoked]:
    for action in GROUPS["changing"]:
        yield Provoked(action, refuse_bytes(daemon, json.dumps({"action": action}).encode()).sentence)
    for action in ("list_allocations", "get_memory_info", "get_machine"):
        yield refuse(daemon, action, service_name=5)
    for action in GROUPS["allocating"]:
        for fields in ({"pool": "x"}, {"dry_run": 1}, {"near": "/"}, {"num_of_cores": -2, "percent": 101}):
            needed = {"percent": 10, "numa_node": 0, "num_of_cores": 1}
            if action == "allocate_cores":
                del needed["numa_node"]
            yield refuse(daemon, action, **(needed | fields))
    yield refuse(daemon, "allocate_cores", service_name="")
    yield refuse(daemon, "allocate_cores", service_name="a\n")
    yield refuse(daemon, "allocate_cores", numa_node=0)
    yield refuse(daemon, "allocate_numa_cores", numa_node=0, num_of_cores=1, near=0)
    yield refuse(daemon, "allocate_numa_cores", numa_node=0, num_of_cores=0)
    yield refuse(daemon, "allocate_hugepages", node_id=0, size_kb=2048, hugepages_requested=0)
    yield refuse(daemon, "allocate_cores", make_room=True)
    yield refuse(daemon, "get_history", limit=0)
    yield refuse(daemon, "watch", pool="x")
    yield refuse(daemon, "get_claim", cpu=1)
    yield refuse(daemon, "get_claim", service_name=None, cpu=99)


def refuse_names(daemon: Daemon) -> Iterator[Provoked]:
    # U+0958 has no composed form: in NFC it becomes two characters.
    for name in (" a", "a\N{VARIATION SELECTOR-1}", "\N{DEVANAGARI LETTER QA}" * 255):
        yield refuse(daemon, "allocate_cores", service_name=name, num_of_cores=1)
        yield refuse(daemon, "allocate_hugepages", service_name=name, node_id=0, size_kb=2048, hugepages_requested=1)


def refuse_numbers_of_cpus(daemon: Daemon) -> Iterator[Provoked]:
    daemon.cores("other", 6)
    yield refuse(daemon, "allocate_cores", num_of_cores=7)
    yield refuse(daemon, "allocate_cores_percent", percent=100)
    yield refuse(daemon, "allocate_numa_cores", numa_node=7, num_of_cores=1)
    yield refuse(daemon, "allocate_numa_cores", numa_node=2, num_of_cores=1)
    yield refuse(daemon, "allocate_numa_cores", numa_node=0, num_of_cores=7)
    daemon.cores("other", 12)
    yield refuse(daemon, "allocate_numa_cores", numa_node=0, num_of_cores=1, may_take={})
    daemon.cores("other", 6)
    daemon.numa("explicit", 1, 6)
    yield refuse(daemon, "allocate_numa_cores", numa_node=1, num_of_cores=1)
    daemon.release_everything()


def refuse_the_wrong_pool(daemon: Daemon) -> Iterator[Provoked]:
    daemon.cores("svc", 1, pool="general")
    yield refuse(daemon, "allocate_cores", num_of_cores=1)
    daemon.reload({})
    yield refuse(daemon, "allocate_cores", num_of_cores=2, pool="general")
    daemon.release_everything()
    yield refuse(daemon, "allocate_cores", num_of_cores=1, pool="general")
    for action in ("list_allocations", "watch"):
        yield refuse(daemon, action, pool="general")
    daemon.reload({"cpu-pool": "0-1"})
    yield refuse(daemon, "allocate_cores", num_of_cores=1, pool="general")
    daemon.reload({"cpu-pool": "0", "reserved-cpus": "0"})
    yield refuse(daemon, "allocate_cores_percent", percent=10, pool="general")
    daemon.reload(SETTINGS)
    daemon.host.set_isolated(())
    yield refuse(daemon, "allocate_cores")
    daemon.host.reset()


def refuse_changes_of_a_claim(daemon: Daemon) -> Iterator[Provoked]:
    daemon.hold("svc", "3", preemption_policy="non-preemptive")
    yield refuse(daemon, "allocate_cores", num_of_cores=1, preemption_policy="legacy")
    daemon.host.set_offline({3})
    yield refuse(daemon, "allocate_cores", num_of_cores=2)
    daemon.host.reset()
    daemon.release_everything()


def refuse_wishes(daemon: Daemon) -> Iterator[Provoked]:
    yield refuse(daemon, "allocate_cores", num_of_cores=3, cpu_thread_policy="require")
    daemon.hold("svc", "3,5")
    yield refuse(daemon, "allocate_cores", num_of_cores=3, numa_policy="single-numa-node")
    daemon.release_everything()
    daemon.reload(SETTINGS | {"cpu-distribution": "cores"})
    yield refuse(daemon, "allocate_cores", num_of_cores=2, cpu_thread_policy="require")
    daemon.reload(SETTINGS)
    yield refuse(daemon, "allocate_cores", num_of_cores=1, near=7)
    yield refuse(daemon, "allocate_cores_percent", percent=10, near="0000:3b:00.0")
    yield refuse(daemon, "allocate_cores", num_of_cores=1, near="eth0")
    daemon.host.put("class/net/br0/ifindex", "3")
    yield refuse(daemon, "allocate_cores", num_of_cores=1, near="br0")
    daemon.host.put("class/net/eth1/device/numa_node", "-1")
    yield refuse(daemon, "allocate_cores", num_of_cores=1, near="eth1")
    daemon.host.restore()


def refuse_hugepages(daemon: Daemon) -> Iterator[Provoked]:
    yield refuse(daemon, "allocate_hugepages", node_id=7, size_kb=2048, hugepages_requested=1)
    yield refuse(daemon, "allocate_hugepages", node_id=0, size_kb=64, hugepages_requested=1)
    yield refuse(daemon, "allocate_hugepages", node_id=0, size_kb=2048, hugepages_requested=65)
    yield refuse(daemon, "get_memory_info", node_id=7)
    daemon.pages("svc", 0, 2048, 8)
    daemon.host.set_pages(0, 2048, 2, 2)
    yield refuse(daemon, "allocate_hugepages", node_id=0, size_kb=2048, hugepages_requested=8)
    daemon.release_everything()
    daemon.host.reset()


def refuse_too_many(daemon: Daemon) -> Iterator[Provoked]:
    daemon.reload(SETTINGS | {"max-services": 1, "max-hugepage-records": 1})
    daemon.pages("one", 0, 2048, 1)
    yield refuse(daemon, "allocate_cores", num_of_cores=1)
    yield refuse(daemon, "allocate_hugepages", node_id=0, size_kb=2048, hugepages_requested=1)
    yield refuse(daemon, "allocate_hugepages", service_name="one", node_id=1, size_kb=2048, hugepages_requested=1)
    daemon.release_everything()
    daemon.reload(SETTINGS)


def refuse_on_an_unreadable_host(daemon: Daemon) -> Iterator[Provoked]:
    daemon.host.remove()
    yield refuse(daemon, "allocate_cores", num_of_cores=1)
    yield refuse(daemon, "get_machine")
    yield refuse(daemon, "get_claim", service_name=None, cpu=1)
    daemon.host.restore()


def open_descriptors(daemon: Daemon) -> set[int]:
    """The file descriptors that the daemon has open, after a moment."""
    time.sleep(0.05)
    return {int(name) for name in os.listdir(f"/proc/{daemon.pid}/fd")}


def refuse_without_descriptors(daemon: Daemon) -> Iterator[Provoked]:
    """The daemon may accept one connection, and then open no file."""
    # Twice, because the daemon connects to itself now and then.
    used = open_descriptors(daemon) & open_descriptors(daemon)
    first_free = next(number for number in range(max(used) + 2) if number not in used)
    limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (first_free + 1, limits[1]))
    for action in ("get_memory_info", "list_allocations", "allocate_cores", "get_machine", "watch"):
        yield refuse(daemon, action)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)


def refuse_without_a_database(damaged: Daemon) -> Iterator[Provoked]:
    damaged.start().stop()
    (database,) = damaged.common.rglob("*.db")
    database.write_bytes(b"no database")
    damaged.start()
    yield refuse(damaged, "allocate_cores", num_of_cores=1)
    yield refuse(damaged, "allocate_hugepages", node_id=0, size_kb=2048, hugepages_requested=1)
    yield refuse(damaged, "get_history")
    yield refuse(damaged, "get_claim")
    damaged.stop()


def refuse_after_a_failed_import(importing: Daemon) -> Iterator[Provoked]:
    state = importing.data / "data" / "state.json"
    state.parent.mkdir()
    state.write_text("[]")
    importing.start()
    yield refuse(importing, "allocate_numa_cores", numa_node=0, num_of_cores=1)


def refuse_with_unusable_options(unsure: Daemon) -> Iterator[Provoked]:
    for option in ("reserved-cpus", "isolated-cpus-from", "cpu-pool", "reserved-hugepages"):
        unsure.configure({"cpu-pool": "0,8"} | {option: "x"})
        unsure.start()
        match option:
            case "reserved-cpus" | "isolated-cpus-from":
                yield refuse(unsure, "allocate_cores", num_of_cores=1)
            case "cpu-pool":
                yield refuse(unsure, "allocate_cores", num_of_cores=1, pool="general")
            case _:
                yield refuse(unsure, "allocate_hugepages", node_id=0, size_kb=2048, hugepages_requested=1)
        unsure.stop()


SCENARIOS: Final = (
    refuse_bad_bytes,
    refuse_bad_fields,
    refuse_names,
    refuse_numbers_of_cpus,
    refuse_the_wrong_pool,
    refuse_changes_of_a_claim,
    refuse_wishes,
    refuse_hugepages,
    refuse_too_many,
    refuse_on_an_unreadable_host,
    refuse_strangers,
    refuse_without_descriptors,
)


@pytest.fixture(scope="module")
def provoked() -> list[Provoked]:
    """What a daemon refuses in all scenarios."""
    with Daemon(SMALL, SETTINGS) as daemon:
        daemon.start()
        found = [each for scenario in SCENARIOS for each in scenario(daemon)]
    for scenario in (refuse_without_a_database, refuse_after_a_failed_import, refuse_with_unusable_options):
        with Daemon() as daemon:
            found += scenario(daemon)
    return found


def test_every_refusal_is_in_the_document_with_its_action(provoked: list[Provoked]) -> None:
    documented = rows()
    for action, sentence in provoked:
        actions = {each for template, actions in documented.items() if fits(template, sentence) for each in actions}
        assert actions, f"not in docs/reference/protocol.md: {sentence}"
        assert action == NO_ACTION or {action, "all"} & actions, (
            f"not for {action} in docs/reference/protocol.md: {sentence}"
        )


def test_every_error_of_the_document_is_provoked(provoked: list[Provoked]) -> None:
    """Here, or by another test, which has a part of the sentence."""
    sentences = [each.sentence for each in provoked]
    held = [re.escape(part).replace(r"\{MAX_PIECES\}", "4096") for part in HELD_ELSEWHERE]
    for template in rows():
        assert any(fits(template, sentence) for sentence in sentences) or any(
            re.search(part, template.replace("{uid}", "0")) for part in held
        ), f"no test provokes: {template}"


@pytest.mark.parametrize(("part", "path"), HELD_ELSEWHERE.items())
def test_a_sentence_that_is_held_elsewhere_is_in_that_test(part: str, path: str) -> None:
    assert part in (TESTS / path).read_text(encoding="utf-8")
