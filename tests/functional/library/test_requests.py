# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The library's requests, as this daemon answers them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from charms.epa_orchestrator.v0 import epa
from tests.functional.harness import PATIENCE, Daemon, run_all
from tests.functional.other_user import GID, UID
from tools.synthetic import Shape

LIBRARY = Path(epa.__file__).parents[3]

#: Becomes somebody else, calls a method, and prints the name of the error.
AS_SOMEBODY = """
import json, os, sys
path, library, uid, gid = json.loads(sys.stdin.read())
sys.path.insert(0, library)
from charms.epa_orchestrator.v0 import epa
os.setgroups([])
os.setgid(gid)
os.setuid(uid)
client = epa.Client(path)
try:
    print(len(client.listing().claims))
    client.allocate("mine", 1)
except epa.EpaError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def client(daemon: Daemon) -> epa.Client:
    return epa.Client(daemon.socket_path)


def test_count_percentage_and_default_size_are_granted(client: epa.Client, daemon: Daemon) -> None:
    grant = client.allocate("ceph", 4)
    assert (grant.service, grant.pool, grant.preemption_policy, grant.dry_run) == ("ceph", "isolated", "legacy", False)
    assert (len(grant.cpus), grant.total_available_cpus, grant.remaining_available_cpus) == (4, 12, 8)
    assert set(grant.cpus) == daemon.claims()["ceph"]
    assert grant.answer["placement"]["whole_cores"] == 2
    assert len(client.allocate("nova", percent=25).cpus) == 3
    assert len(client.allocate("ovs", default_size=True).cpus) == 4
    assert client.allocate("ceph", 4).cpus == grant.cpus


def test_node_is_granted_and_released_alone(client: epa.Client, daemon: Daemon) -> None:
    assert str(client.allocate("ovs", 2, numa_node=0).cpus) == "1,9"
    assert str(client.allocate("ovs", 2, numa_node=1).cpus) == "5,13"
    assert client.release("ovs", numa_node=0).cpus.ids == ()
    assert daemon.claims() == {"ovs": {5, 13}}
    assert client.release("ovs").preemption_policy is None
    assert daemon.claims() == {}


def test_dry_run_changes_nothing(client: epa.Client, daemon: Daemon) -> None:
    grant = client.allocate("ceph", 4, dry_run=True, near=1, cpu_thread_policy="require")
    assert grant.dry_run
    assert str(grant.cpus) == "5-6,13-14"
    assert daemon.claims() == {}


def test_taking_is_shown_and_limited(client: epa.Client, daemon: Daemon) -> None:
    daemon.cores("loser", 12)
    would = client.allocate("taker", 2, numa_node=0, dry_run=True)
    assert [(name, str(cpus)) for name, cpus in would.taken.items()] == [("loser", str(would.cpus))]
    with pytest.raises(epa.Refused, match="which its may_take does not allow"):
        client.allocate("taker", 2, numa_node=0, may_take={})
    assert client.allocate("taker", 2, numa_node=0, may_take=would.taken).cpus == would.cpus


def test_general_pool_has_its_own_claims(client: epa.Client, daemon: Daemon) -> None:
    with pytest.raises(epa.Refused, match="Pool general is not configured"):
        client.listing("general")
    daemon.reload({"cpu-pool": "0,8"})
    assert client.allocate("web", 1, pool="general").pool == "general"
    claim = client.listing("general").claim("web")
    assert claim is not None
    assert (claim.pool, claim.cpus.ids, claim.is_explicit) == ("general", (0,), False)
    assert client.listing().claim("web") is None
    client.release("web", "general")
    assert client.listing("general").claims == ()


def test_protected_claim_says_so(client: epa.Client) -> None:
    assert client.allocate("ceph", 2, preemption_policy="non-preemptive").preemption_policy == "non-preemptive"
    with pytest.raises(epa.Refused, match="is non-preemptive: release its CPUs before"):
        client.allocate("ceph", 2, preemption_policy="legacy")


def test_hugepages_are_recorded_and_removed(client: epa.Client) -> None:
    client.record_hugepages("ovs", 0, 2048, 4)
    node = client.hugepages()[0]
    assert (node.total, node.free) == ({2048: 64, 1048576: 4}, {2048: 60, 1048576: 4})
    assert node.records == {"ovs": {2048: 4}}
    client.remove_hugepages("ovs", 0, 2048)
    client.remove_hugepages("ovs", 0, 2048)
    assert client.hugepages()[0].records == {}
    with pytest.raises(epa.Refused, match="only has 64 free hugepages"):
        client.record_hugepages("ovs", 0, 2048, 65)


def test_name_in_another_unicode_form_is_the_same_service(client: epa.Client) -> None:
    client.allocate("e\u0301ric", 2)
    claim = client.listing().claim("e\u0301ric")
    assert claim is not None
    assert claim.service == "\u00e9ric"


def test_listing_of_many_claims_is_read_to_its_end() -> None:
    """Today's clients call recv(4096) once."""
    with Daemon(Shape(cores_per_l3=128, isolated="0-127")) as daemon:
        client = epa.Client(daemon.start().socket_path)
        for number in range(100):
            client.allocate(f"service-{number:03}-{'x' * 200}", 1)
        assert len(json.dumps(client.listing().answer)) > 30_000
        assert len(client.listing().claims) == 100


def test_host_without_isolated_cpus_has_an_error_of_its_own(client: epa.Client, daemon: Daemon) -> None:
    daemon.host.set_isolated([])
    with pytest.raises(epa.NoIsolatedCpus, match="No Isolated CPUs configured"):
        client.allocate("ceph", 2)
    with pytest.raises(epa.NoIsolatedCpus):
        client.allocate("ceph", default_size=True)


def test_client_may_be_shared_by_threads(client: epa.Client, daemon: Daemon) -> None:
    run_all([lambda n=n: client.allocate(f"s{n}", 1, near=0, dry_run=n % 2 == 1) for n in range(16)])
    assert set(daemon.claims()) == {f"s{n}" for n in range(0, 16, 2)}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("mode", "lines"),
    [
        (
            0o755,
            ["0", f"NotPermitted User {UID} may only read: claims are changed by root and by the users and groups"],
        ),
        (0o700, ["NotPermitted This user may not connect to"]),
    ],
)
def test_user_without_rights_is_not_permitted(daemon: Daemon, mode: int, lines: list[str]) -> None:
    daemon.base.chmod(0o755)
    daemon.data.chmod(mode)
    request = json.dumps([str(daemon.socket_path), str(LIBRARY), UID, GID])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", AS_SOMEBODY],
        input=request, capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    printed = done.stdout.splitlines()
    assert len(printed) == len(lines)
    assert all(line.startswith(start) for line, start in zip(printed, lines, strict=True)), printed


def test_missing_socket_says_what_to_connect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SNAP_DATA", str(tmp_path))
    monkeypatch.delenv("SNAP_INSTANCE_NAME", raising=False)
    client = epa.Client()
    assert not client.is_available()
    with pytest.raises(epa.NoSocket, match=r"start it: sudo snap start epa-orchestrator$"):
        client.features()
    monkeypatch.setenv("SNAP_INSTANCE_NAME", "my-snap")
    with pytest.raises(
        epa.NoSocket, match=r"run: sudo snap connect my-snap:epa-info epa-orchestrator:epa-info$"
    ) as caught:
        client.allocate("ceph", 2, dry_run=True)
    assert not caught.value.outcome_unknown


def test_stale_socket_file_is_unavailable(daemon: Daemon, tmp_path: Path) -> None:
    path = daemon.base / "stale.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    with pytest.raises(epa.Unavailable, match=f"^No daemon serves {path}: start it") as caught:
        epa.Client(path).allocate("ceph", 2)
    assert type(caught.value) is epa.Unavailable


def test_waits_for_a_daemon_that_starts_later() -> None:
    with Daemon() as daemon:
        client = epa.Client(daemon.socket_path)
        begin = time.monotonic()
        with pytest.raises(epa.NoSocket):
            client.wait_until_ready(0.8)
        assert time.monotonic() - begin < 1.5
        starter = threading.Timer(1, daemon.start)
        starter.start()
        try:
            listing = client.wait_until_ready(PATIENCE)
        finally:
            starter.join()
        assert "dry-run" in listing.features
        assert listing.state_error == ""


def test_read_only_daemon_says_why_in_its_listing(daemon: Daemon) -> None:
    with Daemon() as broken:
        (broken.data / "data").mkdir()
        (broken.data / "data" / "state.json").write_text(
            '{"version": 1, "allocations_db": {"allocations": {"a": "x"}}}'
        )
        client = epa.Client(broken.start().socket_path)
        assert "was not imported" in client.wait_until_ready(5).state_error
        with pytest.raises(epa.Refused, match="was not imported"):
            client.allocate("ceph", 1)
