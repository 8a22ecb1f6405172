# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Mutations: how a request changes the ledger, and its whole answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from epa_orchestrator.allocation.claims import Change, Claim
from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.refusal import Refused
from epa_orchestrator.allocation.settings import parse_settings
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.daemon.mutations import Decision, decide, refusal
from epa_orchestrator.hardware.sysfs import RecordedSysfs
from epa_orchestrator.protocol.parsing import validate
from epa_orchestrator.protocol.requests import AllocateHugepages, Mutation
from tools.synthetic import Shape, build

# Node 0 has the cores 2,10 and 3,11 in the pool, node 1 the cores 4,12 to 7,15; each node is one L3 domain.
SHAPE = Shape(packages=2, cores_per_l3=4, threads_per_core=2, isolated="2-7,10-15", hugepages={2048: (8, 8)})
DEVICES = {
    "bus/pci/devices/0000:3b:00.0/numa_node": "1",
    "bus/pci/devices/0000:00:1f.6/numa_node": "-1",
    "class/net/eth0/device/numa_node": "1",
}

PCI_DEVICES = "this host has 0000:00:1f.6, 0000:3b:00.0; did you mean '0000:3b:00.0'?"

ACTIONS: dict[str, dict[str, Any]] = {
    "allocate_cores": {"num_of_cores": 2},
    "allocate_cores_percent": {"percent": 16},
    "allocate_numa_cores": {"numa_node": 0, "num_of_cores": 2},
}
#: What each of them answers on an empty machine, to the letter, but for the fields that are newer than those.
ANSWERS: dict[str, str] = {
    "allocate_cores": (
        '"service_name":"a","num_of_cores":2,"cores_allocated":2,"allocated_cores":"2,10",'
        '"shared_cpus":"3-7,11-15","total_available_cpus":12,"remaining_available_cpus":10,"pool":"isolated",'
        '"preemption_policy":"legacy"}'
    ),
    "allocate_cores_percent": (
        '"service_name":"a","cores_allocated_count":2,"allocated_cores":"2,10","total_available_cpus":12,'
        '"remaining_available_cpus":10,"pool":"isolated","preemption_policy":"legacy"}'
    ),
    "allocate_numa_cores": (
        '"service_name":"a","numa_node":0,"num_of_cores":2,"cores_allocated":"2,10","total_available_cpus":12,'
        '"remaining_available_cpus":10,"pool":"isolated","preemption_policy":"legacy"}'
    ),
}


def host(**options: object) -> Host:
    settings = parse_settings({"cpu-pool": "1,9", **{name.replace("_", "-"): each for name, each in options.items()}})
    return Host(RecordedSysfs(build(SHAPE) | DEVICES), settings)


def request(action: str, **fields: Any) -> Mutation:
    """A request of service a with other or more fields."""
    made = validate({"action": action, "service_name": "a", **ACTIONS.get(action, {}), **fields})
    assert isinstance(made, Mutation)
    return made


def decided(asked: Mutation, ledger: Ledger | None = None, at: Host | None = None) -> Decision:
    at = at or host()
    return decide(ledger or Ledger(), at, at.pools(), asked)


def answer(asked: Mutation, ledger: Ledger | None = None, at: Host | None = None) -> dict[str, Any]:
    return json.loads(decided(asked, ledger, at).answer.encode())


def refused(asked: Mutation, ledger: Ledger | None = None, at: Host | None = None) -> dict[str, Any]:
    """The answer to a request that is refused."""
    with pytest.raises(Refused) as caught:
        decided(asked, ledger, at)
    return json.loads(refusal(asked, caught.value).encode())


@pytest.mark.parametrize("action", ACTIONS)
def test_the_fields_of_older_clients_are_unchanged(action: str) -> None:
    found = decided(request(action))
    text = found.answer.encode().decode()
    assert text.endswith(ANSWERS[action])
    assert set(json.loads(text)) - set(json.loads("{" + ANSWERS[action])) == {"version", "placement"}
    assert str(found.ledger.claims["a"].cpus) == "2,10"


@pytest.mark.parametrize(
    ("asked", "at", "placement"),
    [
        (request("allocate_cores"), host(), ("0", 1, 1, 1, 0, "")),
        (request("allocate_cores", num_of_cores=1), host(), ("0", 1, 1, 0, 0, "")),
        (request("allocate_cores", num_of_cores=9), host(), ("0-1", 2, 2, 4, 0, "")),
        (request("allocate_cores", num_of_cores=3), host(cpu_thread_policy="isolate"), ("1", 1, 1, 0, 0, "12-14")),
        (request("allocate_cores", cpu_thread_policy="isolate"), host(), ("0", 1, 1, 0, 0, "10-11")),
        (request("allocate_cores_percent", percent=100), host(), ("0-1", 2, 2, 6, 0, "")),
        (request("allocate_numa_cores", numa_node=1), host(), ("1", 1, 1, 1, 0, "")),
        (request("allocate_cores", pool="general"), host(), ("0", 1, 1, 1, 0, "")),
    ],
)
def test_where_the_cpus_are(asked: Mutation, at: Host, placement: tuple[object, ...]) -> None:
    assert tuple(answer(asked, at=at)["placement"].values()) == placement


def test_shared_cores_are_those_with_a_thread_of_another() -> None:
    ledger = decided(request("allocate_cores", service_name="b", num_of_cores=11)).ledger
    (last,) = CpuSet.parse("2-7,10-15") - ledger.claimed
    found = answer(request("allocate_cores", num_of_cores=1), ledger)
    assert (found["allocated_cores"], found["placement"]["shared_cores"]) == (str(last), 1)


def test_the_placement_of_a_numa_answer_is_that_of_its_node() -> None:
    at = host(cpu_thread_policy="isolate")
    ledger = decided(request("allocate_numa_cores"), at=at).ledger
    found = answer(request("allocate_numa_cores", numa_node=1, num_of_cores=1), ledger, at)
    assert (found["cores_allocated"], found["placement"]["numa_nodes"]) == ("4", "1")
    assert found["placement"]["withheld_cpus"] == "10-12", "by the whole claim"


@pytest.mark.parametrize(
    "asked",
    [
        request("allocate_cores", num_of_cores=-1),
        request("allocate_cores_percent", percent=0),
        request("allocate_numa_cores", num_of_cores=-1),
    ],
    ids=lambda each: each.action,
)
@pytest.mark.parametrize(
    "more", [{}, {"explain": True}, {"dry_run": True}, {"near": 1}, {"numa_policy": "none"}], ids=str
)
def test_a_release_places_and_explains_nothing(asked: Mutation, more: dict[str, Any]) -> None:
    ledger = decided(request("allocate_cores")).ledger
    if "near" in more and "numa" in asked.action:
        return
    asked = asked.model_copy(update=more)
    found = decided(asked, ledger)
    told = json.loads(found.answer.encode())
    assert not {"placement", "explanation"} & set(told)
    assert told["preemption_policy"] is None
    assert ("a" in found.ledger.claims) is ("dry_run" in told) is ("dry_run" in more)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("explain", [False, True])
def test_a_dry_run_answers_as_the_request_would_and_changes_nothing(action: str, explain: bool) -> None:
    other = decided(request("allocate_cores", service_name="b", num_of_cores=3)).ledger
    for ledger in (Ledger(), other, decided(request("allocate_cores", num_of_cores=5), other).ledger):
        dry = decided(request(action, dry_run=True, explain=explain), ledger)
        assert (dry.change, dry.ledger) == (Change(), ledger)
        wet = answer(request(action, explain=explain), ledger)
        assert json.loads(dry.answer.encode()) == wet | {"dry_run": True}
        assert ("explanation" in wet) is explain


def test_a_dry_run_is_refused_as_the_request_would_be() -> None:
    for fields in ({"num_of_cores": 13}, {"num_of_cores": 9, "numa_policy": "single-numa-node"}):
        wet, dry = request("allocate_cores", **fields), request("allocate_cores", **fields, dry_run=True)
        assert refused(dry) == refused(wet)


def test_a_refusal_is_explained_on_demand_only() -> None:
    fields = {"num_of_cores": 9, "numa_policy": "single-numa-node"}
    plain = refused(request("allocate_cores", **fields))
    assert set(plain) == {"version", "error"}
    explained = refused(request("allocate_cores", **fields, explain=True))
    assert explained["error"] == plain["error"]
    assert explained["explanation"]["rule"] == "numa-policy"
    assert set(refused(request("allocate_cores", num_of_cores=13, explain=True))) == {"version", "error"}
    pages = request("allocate_hugepages", node_id=0, size_kb=2048, hugepages_requested=9)
    assert isinstance(pages, AllocateHugepages)
    assert set(refused(pages)) == {"version", "error"}


@pytest.mark.parametrize("near", [1, "3b:00.0", "0000:3B:00.0", "eth0"])
@pytest.mark.parametrize("action", ["allocate_cores", "allocate_cores_percent"])
def test_near_a_node_or_a_device(action: str, near: int | str) -> None:
    assert answer(request(action, near=near))["allocated_cores"] == "4,12"
    # A preference: where the node has not enough, the next one serves.
    assert decided(request(action, near=near)).ledger.claims["a"].wishes.near == 1


@pytest.mark.parametrize(
    ("near", "sentence"),
    [
        (2, "near=2: NUMA node 2 does not exist"),
        ("3c:00.0", f"near=3c:00.0: this machine shows no PCI device 0000:3c:00.0; {PCI_DEVICES}"),
        ("eth1", "near=eth1: the network interface does not exist; this host has eth0; did you mean 'eth0'?"),
        ("00:1f.6", "near=00:1f.6: the kernel does not know its NUMA node (it reports -1): name the node instead"),
    ],
)
def test_refuses_near_something_that_does_not_exist(near: int | str, sentence: str) -> None:
    assert refused(request("allocate_cores", near=near)) == {"version": "1.0", "error": sentence}


def test_a_repeated_request_near_a_device_that_disappeared_changes_nothing() -> None:
    asked = request("allocate_cores", near="eth0", numa_policy="restricted")
    ledger, at = decided(asked).ledger, Host(RecordedSysfs(build(SHAPE)), parse_settings({}))
    again = decided(asked, ledger, at)
    assert again.change == Change()
    sentence = "near=eth0: the network interface does not exist"
    assert json.loads(again.answer.encode())["warnings"] == [f"{sentence}. The service keeps the CPUs that it holds"]
    more = request("allocate_cores", near="eth0", numa_policy="restricted", num_of_cores=3)
    with pytest.raises(Refused, match=sentence):
        decided(more, ledger, at)


def test_wishes_that_contradict_or_weaken_the_operators_options() -> None:
    at = host(cpu_distribution="cores")
    contradicting = refused(request("allocate_cores", cpu_thread_policy="require", explain=True), at=at)
    assert set(contradicting) == {"version", "error"}
    assert "contradicts cpu-distribution=cores, which the operator has set" in contradicting["error"]
    # One that is weaker than the operator's rule is not granted, and not refused.
    at = host(cpu_thread_policy="isolate")
    assert answer(request("allocate_cores", cpu_thread_policy="share"), at=at)["allocated_cores"] == "2-3"


@pytest.mark.parametrize("action", ACTIONS)
def test_an_answer_fits_into_one_recv_unless_it_explains(action: str) -> None:
    name = "\N{GRINNING FACE}" * 255
    encoded = decided(request(action, service_name=name, cpu_thread_policy="isolate", dry_run=True)).answer.encode()
    assert len(encoded) < 4096


# --- names -------------------------------------------------------------------------------------------------------

COMPOSED, DECOMPOSED = "\u00e9tude", "e\u0301tude"

#: What each action asks for when it takes, and when it gives back.
TAKES: dict[str, dict[str, Any]] = ACTIONS | {
    "allocate_hugepages": {"node_id": 0, "size_kb": 2048, "hugepages_requested": 2}
}
RELEASES: dict[str, dict[str, Any]] = {
    "allocate_cores": {"num_of_cores": -1},
    "allocate_cores_percent": {"percent": 0},
    "allocate_numa_cores": {"numa_node": 0, "num_of_cores": -1},
    "allocate_hugepages": {"node_id": 0, "size_kb": 2048, "hugepages_requested": -1},
}


def holding(*services: str) -> Ledger:
    """A ledger in which each service has one CPU of node 1, whatever it is called."""
    claims = [Claim(name, "isolated", CpuSet([4 + n]), EMPTY, "legacy") for n, name in enumerate(services)]
    return Ledger.of(claims, {})


@pytest.mark.parametrize("action", TAKES)
def test_a_new_service_gets_the_nfc_spelling_of_its_name(action: str) -> None:
    found = decided(request(action, **TAKES[action], service_name=DECOMPOSED))
    assert {*found.ledger.claims, *found.ledger.pages} == {COMPOSED}
    assert json.loads(found.answer.encode())["service_name"] == COMPOSED


@pytest.mark.parametrize("action", TAKES)
def test_another_spelling_means_the_service_that_exists(action: str) -> None:
    first = decided(request(action, **TAKES[action], service_name=COMPOSED)).ledger
    again = decided(request(action, **TAKES[action], service_name=DECOMPOSED), first)
    assert again.change == Change()
    released = decided(request(action, **RELEASES[action], service_name=DECOMPOSED), first)
    assert not {**released.ledger.claims, **released.ledger.pages}
    assert json.loads(released.answer.encode())["service_name"] == COMPOSED


@pytest.mark.parametrize("name", [DECOMPOSED, " a", "\u3164", "a\ufe0f"])
def test_a_name_that_holds_something_is_used_as_it_is(name: str) -> None:
    ledger = holding(name, COMPOSED)
    for action, fields in (*TAKES.items(), *RELEASES.items()):
        found = decided(request(action, **fields, service_name=name), ledger)
        assert json.loads(found.answer.encode())["service_name"] == name
        assert found.ledger.claims.get(COMPOSED) is ledger.claims[COMPOSED]


@pytest.mark.parametrize("action", TAKES)
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (" a", "must not begin or end with a blank"),
        ("\u2800", "must not begin or end with a blank"),
        ("a\u3164", "must not hold the invisible character U+3164"),
        ("\u0958" * 255, "must have at most 255 characters in Unicode's form NFC, not 510"),
    ],
)
def test_a_new_service_with_an_odd_name_is_refused(action: str, name: str, reason: str) -> None:
    sentence = refused(request(action, **TAKES[action], service_name=name), holding("a"))["error"]
    assert sentence == f"Field 'service_name' {reason}: choose another name for this service"


@pytest.mark.parametrize("action", RELEASES)
def test_releasing_an_odd_name_that_holds_nothing_is_no_error(action: str) -> None:
    found = decided(request(action, **RELEASES[action], service_name=" a"), holding("a"))
    assert found.change == Change()
    assert json.loads(found.answer.encode())["service_name"] == " a"


# --- limits ------------------------------------------------------------------------------------------------------

TOO_MANY_SERVICES = (
    "There are as many services as max-services=2 allows: release some that are not needed, or set max-services higher"
)
TOO_MANY_RECORDS = (
    "There are as many hugepage records as max-hugepage-records=2 allows: release some that are not needed, or set"
    " max-hugepage-records higher"
)


@pytest.mark.parametrize("action", TAKES)
def test_a_service_too_many_is_refused(action: str) -> None:
    at = host(max_services=2)
    for ledger in (
        holding("x", "y"),
        holding("x", "y", "z"),
        Ledger.of([], {"x": {(0, 2048): 1}, "y": {(1, 2048): 1}}),
    ):
        assert refused(request(action, **TAKES[action]), ledger, at)["error"] == TOO_MANY_SERVICES
        if action != "allocate_hugepages":
            assert refused(request(action, **TAKES[action], dry_run=True), ledger, at)["error"] == TOO_MANY_SERVICES
    # One that holds both kinds is one service.
    one = Ledger.of(holding("x").claims.values(), {"x": {(0, 2048): 1}})
    assert decided(request(action, **TAKES[action]), one, at).change


@pytest.mark.parametrize("action", TAKES)
def test_services_that_exist_stay_usable_however_many(action: str) -> None:
    at = host(max_services=1, max_hugepage_records=1)
    ledger = Ledger.of(holding("a", "b", "c").claims.values(), {each: {(0, 2048): 1} for each in "abc"})
    assert decided(request(action, **TAKES[action]), ledger, at).change
    assert decided(request(action, **RELEASES[action]), ledger, at).change or action == "allocate_numa_cores"


def test_a_service_that_takes_the_place_of_another_is_not_too_many() -> None:
    at = host(max_services=1)
    found = decided(request("allocate_numa_cores", numa_node=1, num_of_cores=8), holding("b"), at)
    assert set(found.ledger.claims) == {"a"}


def test_a_hugepage_record_too_many_is_refused() -> None:
    at = host(max_hugepage_records=2)
    fields = TAKES["allocate_hugepages"]
    ledger = Ledger.of([], {"a": {(1, 2048): 1}, "b": {(0, 2048): 1}})
    assert refused(request("allocate_hugepages", **fields), ledger, at)["error"] == TOO_MANY_RECORDS
    assert decided(request("allocate_hugepages", **fields | {"node_id": 1}), ledger, at).change, "a record that exists"
    fewer = decided(
        request("allocate_hugepages", **RELEASES["allocate_hugepages"], service_name="b"), ledger, at
    ).ledger
    assert decided(request("allocate_hugepages", **fields), fewer, at).change
    assert decided(request("allocate_cores"), ledger, at).change, "CPUs are no records"


def test_other_mistakes_are_reported_before_the_limit() -> None:
    at = host(max_services=1)
    assert refused(request("allocate_cores", num_of_cores=20), holding("b"), at)["error"] == (
        "Insufficient CPUs available. Requested: 20, Available: 11"
    )


# --- CPUs of others ---

NOVA = Ledger.of([Claim("nova", "isolated", CpuSet.parse("2-3,10-11"), EMPTY, "legacy")], {})
SMILE = "\N{GRINNING FACE}" * 254


def test_the_answer_names_who_loses_which_cpus() -> None:
    made = decided(request("allocate_numa_cores"), NOVA)
    document = json.loads(made.answer.encode())
    assert (document["cores_allocated"], document["taken"]) == ("2,10", {"nova": "2,10"})
    assert made.outcome == "served, took CPUs 2,10 from 'nova'"


def test_a_dry_run_names_who_would_lose_which_cpus() -> None:
    made = decided(request("allocate_numa_cores", dry_run=True), NOVA)
    assert json.loads(made.answer.encode())["taken"] == {"nova": "2,10"}
    assert (made.change, made.outcome) == (Change(), "dry run, nothing changed, would take CPUs 2,10 from 'nova'")


def test_the_explanation_names_who_loses_which_cpus() -> None:
    told = answer(request("allocate_numa_cores", explain=True), NOVA)
    assert told["explanation"]["decided_by"].endswith(" It takes CPUs 2,10 from 'nova'.")


@pytest.mark.parametrize("action", ACTIONS)
def test_an_answer_that_takes_nothing_names_nobody(action: str) -> None:
    made = decided(request(action))
    assert "taken" not in json.loads(made.answer.encode())
    assert made.outcome == "served"


def test_services_that_the_answer_cannot_name_are_a_warning() -> None:
    first = Claim(SMILE + "b", "isolated", CpuSet.parse("2,10"), EMPTY, "legacy")
    second = Claim(SMILE + "c", "isolated", CpuSet.parse("3,11"), EMPTY, "legacy")
    told = answer(request("allocate_numa_cores", num_of_cores=4), Ledger.of([first, second], {}))
    assert told["taken"] == {first.service: "2,10"}
    assert told["warnings"] == ["'taken' does not name all services: the request takes CPUs 3,11 from 1 other service"]


# --- warnings ---


@pytest.mark.parametrize("action", [*ACTIONS, "allocate_hugepages"])
def test_the_answer_names_unknown_fields(action: str) -> None:
    pages = {"node_id": 0, "size_kb": 2048, "hugepages_requested": 1} if action == "allocate_hugepages" else {}
    assert answer(request(action, dryrun=True, **pages))["warnings"] == ["unknown field 'dryrun'"]


def test_a_refusal_has_no_warnings() -> None:
    assert refused(request("allocate_cores", num_of_cores=99, dryrun=True)).keys() == {"version", "error"}


NOTHING_LEFT = (
    "No CPU of pool isolated is free after this request: shared_cpus is then empty, and openstack-hypervisor pins no"
    " guests"
)


@pytest.mark.parametrize("fields", [{}, {"num_of_cores": 0}, {"num_of_cores": 0, "dry_run": True}], ids=str)
def test_the_default_size_that_leaves_nothing_to_share_is_a_warning(fields: dict[str, Any]) -> None:
    asked = validate({"action": "allocate_cores", "service_name": "a", **fields})
    assert isinstance(asked, Mutation)
    assert answer(asked, at=host(default_allocation_percent=100))["warnings"] == [NOTHING_LEFT]


@pytest.mark.parametrize(("count", "percent"), [(0, 80), (12, 100), (-1, 100)])
def test_other_requests_that_leave_nothing_or_something_are_no_warning(count: int, percent: int) -> None:
    told = answer(request("allocate_cores", num_of_cores=count), at=host(default_allocation_percent=percent))
    assert "warnings" not in told
