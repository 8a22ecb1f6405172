# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Model: the claims and records that a daemon's answers imply, worked out without the daemon's own code.

The simulation shows it every request with its answer, and then what the daemon lists and what it has stored. It raises
`Violation` as soon as something contradicts an earlier answer or a promise of the protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any, Final

from tests.faults.claims import Held, Json, granted, pool_of, released, require
from tests.faults.hosts import MachineNow
from tests.faults.promises import (
    free_pages,
    has_wishes,
    judge_numa_nodes,
    judge_sharing,
    judge_whole_cores,
    thread_policy,
)
from tests.functional.harness import parse_cpus

PageRecord = tuple[str, int, int]  # service, node, size in KiB

_DOWNGRADE: Final = ("non-preemptive", "legacy")


def _is_for_default_size(request: Json) -> bool:
    return request["action"] == "allocate_cores" and request["num_of_cores"] == 0


class Model:
    """The state that the answers so far imply, on `machine` and under `options` as they are now."""

    def __init__(self, machine: MachineNow, options: Json) -> None:
        self.machine = machine
        self.use(options)
        self.held: dict[str, Held] = {}
        self.pages: dict[PageRecord, int] = {}
        #: By CPU: the threads of its core that were seen together on this machine, directly or by others in between.
        self.met: dict[int, set[int]] = {}

    # --- machine and options --------------------------------------------------------------------------------------

    def use(self, options: Json, unusable: Set[str] = frozenset()) -> None:
        """These options are in force, because they were set, or because a start found others `unusable`."""
        self.options = options
        self.unusable = unusable

    def option(self, name: str, default: Any) -> Any:
        return self.options.get(name, default)

    @property
    def all_online(self) -> bool:
        """Whether all CPUs, claimed ones too, are online, so that the model knows the node of each."""
        machine = self.machine
        if machine.unreadable or machine.homeless or len(machine.online) < machine.shape.cpus:
            return False
        return all(held.cpus <= machine.online for held in self.held.values())

    def _meet(self) -> None:
        """Learn which CPUs the kernel shows as threads of one core."""
        if self.machine.unreadable:
            return
        for cpu in self.machine.online:
            threads = {cpu} | self.machine.siblings[cpu]
            together = set[int]().union(*(self.met.get(each, {each}) for each in threads & self.machine.online))
            for each in together:
                self.met[each] = together

    def _siblings_met(self, cpus: set[int]) -> set[int]:
        """The other threads of the cores of these CPUs that the daemon can know of."""
        return set[int]().union(*(self.met.get(cpu, {cpu}) - {cpu} for cpu in cpus))

    def eligible(self, pool: str) -> set[int]:
        """The CPUs that the pool may grant now."""
        if self.machine.unreadable or "reserved-cpus" in self.unusable:
            return set()
        reserved = parse_cpus(self.option("reserved-cpus", ""))
        if pool == "isolated":
            return (self.machine.isolated & self.machine.online) - reserved
        if "cpu-pool" in self.unusable:
            return set()
        configured = parse_cpus(self.option("cpu-pool", "")) - reserved
        return set() if configured & self.machine.isolated else configured & self.machine.online

    def free(self, pool: str, but_for: str | None = None) -> set[int]:
        """The pool's CPUs that no service owns or withholds, apart from `but_for`."""
        used: set[int] = set()
        for service, held in self.held.items():
            if service != but_for:
                used |= held.cpus | held.withheld
        return self.eligible(pool) - used

    @property
    def system(self) -> set[int]:
        """The CPUs that the operating system uses: online, in no pool and not reserved."""
        ours = self.eligible("isolated") | self.eligible("general") | parse_cpus(self.option("reserved-cpus", ""))
        return self.machine.online - ours

    def has_rules(self, request: Json) -> bool:
        """Whether options or wishes can refuse a request although there are enough CPUs."""
        return (
            has_wishes(request)
            or self.option("cpu-thread-policy", "prefer") in ("require", "isolate")
            or self.option("numa-policy", "best-effort") in ("restricted", "single-numa-node")
            or self.option("uncore-cache-alignment", "prefer") == "require"
        )

    # --- answers --------------------------------------------------------------------------------------------------

    def judge(self, request: Json, answer: Json, *, lone: bool) -> None:
        """Check one answer and learn from it; `lone` when nothing was decided between the last listing and it."""
        if "error" in answer:
            self._judge_refusal(request, answer, lone=lone)
        elif request.get("dry_run"):
            require(answer.get("dry_run") is True, "a dry run does not say so", request, answer)
        elif request["action"] == "allocate_hugepages":
            self._judge_pages(request, answer)
        elif released(request):
            self._judge_release(request, answer)
        else:
            self._judge_grant(request, answer, lone=lone)

    def _judge_refusal(self, request: Json, answer: Json, *, lone: bool) -> None:
        error = answer["error"]
        require("Internal error" not in error, "an internal error", request, error)
        require(set(answer) <= {"version", "error", "explanation"}, "an error with results", request, answer)
        if not lone or "could not be stored" in error:
            return
        held = self.held.get(request["service_name"])
        if request["action"] == "allocate_hugepages":
            require(not self._pages_must_be_granted(request), "hugepages are refused although free", request, error)
        elif released(request):
            own_pool = held is None or held.pool == pool_of(request)
            known = pool_of(request) == "isolated" or held is not None
            require(not (own_pool and known), "a release is refused", request, error)
        elif held is not None and self._asks_for_its_own(request, held):
            require(False, "a request for what the service holds is refused", request, error, held)
        elif self._must_be_granted(request, held):
            require(False, "a request is refused although there are enough CPUs", request, error)

    def _asks_for_its_own(self, request: Json, held: Held) -> bool:
        """Whether this asks for what the service holds; then no offline CPU and no changed option can refuse it."""
        if held.pool != pool_of(request) or (held.preemption_policy, request.get("preemption_policy")) == _DOWNGRADE:
            return False
        if has_wishes(request):
            return False
        if request["action"] == "allocate_cores":
            return request["num_of_cores"] in (0, len(held.cpus))
        if not held.cpus <= self.eligible(held.pool):
            return False  # of offline CPUs, the daemon knows the node
        if request["action"] == "allocate_cores_percent":
            return self._percent(request) == len(held.cpus)
        return request["num_of_cores"] == len(self._here(request, held))

    def _has_room(self, service: str) -> bool:
        """Whether the service is known, or the limit allows one more."""
        known = self.held.keys() | {record[0] for record in self.pages}
        return service in known or len(known) < self.option("max-services", 2048)

    def _must_be_granted(self, request: Json, held: Held | None) -> bool:
        """Whether the protocol has no reason to refuse this `allocate_cores`."""
        pool = pool_of(request)
        own = held.cpus if held else set[int]()
        if self.has_rules(request):
            return False
        if held and (held.pool != pool or (held.preemption_policy, request.get("preemption_policy")) == _DOWNGRADE):
            return False
        if not self._has_room(request["service_name"]):
            return False
        if request["action"] != "allocate_cores" or not own <= self.eligible(pool) or not self.eligible(pool):
            return False
        return max(request["num_of_cores"], 1) <= len(self.free(pool, request["service_name"]))

    def _judge_pages(self, request: Json, answer: Json) -> None:
        record = request["service_name"], request["node_id"], request["size_kb"]
        count = request["hugepages_requested"]
        require(answer["allocation_successful"] is True, "hugepages without success", request, answer)
        if count < 0:
            self.pages.pop(record, None)
            return
        kernel = self.machine.pages(*record[1:])
        require(kernel is not None, "hugepages of a kind that does not exist", request)
        assert kernel is not None
        left = self.free_pages(*record[1:])
        require(count - self.pages.get(record, 0) <= left, "hugepages that are not free", request, f"{left} are left")
        require(count <= kernel[0], "more hugepages than there are", request, kernel)
        self.pages[record] = count

    def _pages_must_be_granted(self, request: Json) -> bool:
        """Whether the protocol has no reason to refuse this `allocate_hugepages`."""
        record = request["service_name"], request["node_id"], request["size_kb"]
        count = request["hugepages_requested"]
        kernel = self.machine.pages(*record[1:])
        if count < 0 or kernel is None:
            return count < 0
        if record not in self.pages and len(self.pages) >= self.option("max-hugepage-records", 8192):
            return False
        fits = count - self.pages.get(record, 0) <= self.free_pages(*record[1:]) and count <= kernel[0]
        return fits and self._has_room(record[0])

    def free_pages(self, node: int, size_kb: int) -> int:
        """How many hugepages are neither in use, promised by the kernel, recorded nor reserved."""
        if "reserved-hugepages" in self.unusable:
            return 0
        return free_pages(self.machine, self.options, self.pages, node, size_kb)

    def _judge_release(self, request: Json, answer: Json) -> None:
        cpus = granted(request, answer)
        require(not cpus, "a release that names CPUs", request, answer)
        held = self.held.get(request["service_name"])
        if held is None:
            require(answer["preemption_policy"] is None, "a policy without a claim", request, answer)
            return
        if "numa_node" in request:
            held.unsure = held.cpus - (set() if self.machine.unreadable else self.machine.online)
            held.lose(self.machine.nodes.get(request["numa_node"], set()))
            if request.get("preemption_policy") == "non-preemptive":
                held.preemption_policy = "non-preemptive"
        else:
            held.cpus = set()
        if not held.cpus:
            del self.held[request["service_name"]]

    def _settle_releases(self, listed: Set[str]) -> None:
        """Forget the services of which an uncertain release has left nothing."""
        for service in self.held.keys() - listed:
            if self.held[service].cpus <= self.held[service].unsure:
                del self.held[service]

    def _judge_grant(self, request: Json, answer: Json, *, lone: bool) -> None:
        service, pool, chosen = request["service_name"], pool_of(request), granted(request, answer)
        before = self.held.get(service)
        after = self._claim_after(request, answer, chosen)
        gained = after.cpus - (before.cpus if before else set())
        require(gained <= self.eligible(pool), "CPUs that are not in the pool", request, gained, "of", pool)
        self._judge_size(request, answer, chosen, before, lone=lone)
        self._judge_kept(request, chosen, self._here(request, before, chosen))
        if gained:
            judge_numa_nodes(self.machine, self.options, request, chosen)
            judge_whole_cores(self.machine, self.options, request, chosen, after)
        if before is None and lone and "taken" not in answer:
            self._judge_sharing(request, chosen)
        self._judge_losses(request, answer, after, gained, lone=lone)
        self.held[service] = after
        newly_alone = after.alone - (before.alone if before else set())
        self._judge_cores(request, gained, newly_alone)

    def _judge_sharing(self, request: Json, chosen: set[int]) -> None:
        foreign = self.system.union(*(other.cpus for other in self.held.values()))
        free, siblings = self.free(pool_of(request)), self._siblings_met(chosen)
        judge_sharing(self.machine, self.options, request, chosen, free, foreign, siblings)

    def _claim_after(self, request: Json, answer: Json, chosen: set[int]) -> Held:
        """The service's claim after the request was granted."""
        before = self.held.get(request["service_name"])
        require(before is None or before.pool == pool_of(request), "a claim in two pools", request, before)
        policy = request.get("preemption_policy")
        if before is None:
            policy = policy or self.option("default-preemption-policy", "legacy")
        else:
            require(
                (before.preemption_policy, policy) != _DOWNGRADE, "back to legacy while holding CPUs", request, answer
            )
            policy = policy or before.preemption_policy
        require(answer["preemption_policy"] == policy, "another policy than asked for", request, answer)
        after = Held(pool_of(request), policy)
        after.ruled = self.has_rules(request) or (before is not None and before.ruled)
        here = self._here(request, before, chosen)
        if before is not None:
            after.cpus, after.explicit = before.cpus - here, before.explicit - here
            after.alone, after.withheld = before.alone - here, set(before.withheld)
        after.cpus |= chosen
        after.explicit |= chosen if "numa_node" in request else set()
        after.alone |= self._alone_after(request, chosen, here, before)
        return after

    def _here(self, request: Json, before: Held | None, chosen: Set[int] = frozenset()) -> set[int]:
        """The part of the claim that the request replaces, with its offline CPUs that the answer names."""
        if before is None:
            return set()
        if "numa_node" not in request:
            return set(before.cpus)
        return before.cpus & (self.machine.nodes.get(request["numa_node"], set()) | chosen)

    def _alone_after(self, request: Json, chosen: set[int], here: set[int], before: Held | None) -> set[int]:
        """Which of the chosen CPUs have a core to themselves by this request or an earlier one."""
        isolate = thread_policy(self.options, request) == "isolate"
        if chosen != here or before is None:
            return chosen if isolate else set()
        kept = before.alone & here
        if request.get("cpu_thread_policy") == "isolate":
            return chosen
        again = self.option("resize-policy", "in-place") == "reallocate" and not _is_for_default_size(request)
        if again or has_wishes(request):
            # Nobody but the daemon knows whether they were placed again. Those that stay promised are so either way.
            return kept if isolate else set()
        return kept

    def _judge_size(self, request: Json, answer: Json, chosen: set[int], before: Held | None, *, lone: bool) -> None:
        if request["action"] == "allocate_cores_percent":
            require(answer["cores_allocated_count"] == len(chosen), "a wrong count", request, answer)
        elif request["action"] == "allocate_cores":
            require(answer["cores_allocated"] == len(chosen), "a wrong count", request, answer)
        if _is_for_default_size(request):
            if lone:
                self._judge_default_size(request, chosen, before)
        elif request["action"] == "allocate_cores_percent":
            # With CPUs of its own offline, the service may ask for what it holds of a pool that has become smaller.
            same = before is not None and chosen == before.cpus and not chosen <= self.eligible(before.pool)
            require(same or len(chosen) == self._percent(request), "another percentage", request, answer)
        else:
            require(len(chosen) == request["num_of_cores"], "another number of CPUs", request, answer)

    def _judge_default_size(self, request: Json, chosen: set[int], before: Held | None) -> None:
        """The default size is never less than the service holds, and rules on cores can only make it smaller."""
        held = before.cpus if before else set[int]()
        pool = self.eligible(pool_of(request))
        wanted = max(self._default_size(request), len(held)) if held <= pool and pool else len(held)
        ruled = self.has_rules(request) or (before is not None and before.ruled)
        require(len(chosen) == wanted or ruled, "another default size", request, chosen, f"wanted {wanted}", held)

    def _judge_kept(self, request: Json, chosen: set[int], here: set[int]) -> None:
        """A claim that grows keeps its CPUs, and one that shrinks gives up only the difference."""
        if _is_for_default_size(request):
            require(here <= chosen, "a default size that moves or shrinks a claim", request, here, "then", chosen)
        elif self.option("resize-policy", "in-place") == "in-place":
            kept = chosen <= here or here <= chosen
            require(kept, "a claim that moves", request, here, "then", chosen)

    def _percent(self, request: Json) -> int:
        return max(-(-len(self.eligible(pool_of(request))) * request["percent"] // 100), 1)

    def _default_size(self, request: Json) -> int:
        available = len(self.free(pool_of(request), request["service_name"]))
        if available <= self.option("large-system-threshold", 100):
            return max(available * self.option("default-allocation-percent", 80) // 100, 1)
        return max(available - self.option("large-system-reserved-cpus", 16), 1)

    def _judge_losses(self, request: Json, answer: Json, after: Held, gained: set[int], *, lone: bool) -> None:
        """Take from other services the CPUs that they may lose to this request."""
        service, pool = request["service_name"], after.pool
        taken: set[int] = set()
        losses = {name: other.cpus & gained for name, other in self.held.items() if name != service}
        said = {name: parse_cpus(cpus) for name, cpus in answer.get("taken", {}).items()}
        require(said == {name: lost for name, lost in losses.items() if lost}, "another taking told", answer, losses)
        free = self.free(pool, service) if lone else set[int]()
        for name, other in list(self.held.items()):
            if name == service or not (lost := other.cpus & gained):
                continue
            taken |= lost
            may_take = "numa_node" in request and after.preemption_policy == "legacy"
            require(
                may_take and self.option("numa-reclaim", "if-needed") != "never", "a CPU twice", request, lost, name
            )
            require(
                other.preemption_policy == "legacy", "CPUs taken from a non-preemptive service", request, lost, name
            )
            require(not lost & other.explicit, "explicit CPUs taken", request, lost, name)
            require(other.pool == pool, "CPUs taken from another pool", request, lost, name)
            other.lose(lost)
            if not other.cpus:
                del self.held[name]
        if taken and lone and not self.has_rules(request):
            self._judge_need(request, after, taken, free)

    def _judge_need(self, request: Json, after: Held, taken: set[int], free: set[int]) -> None:
        """CPUs are taken from others only when free ones do not suffice, unless `numa-reclaim` is `always`."""
        if self.option("numa-reclaim", "if-needed") != "always":
            node = self.machine.nodes.get(request["numa_node"], set())
            spare = (free & node) - after.cpus
            require(not spare, "CPUs taken while others are free", request, taken, "free:", spare)

    def _judge_cores(self, request: Json, gained: set[int], alone: set[int]) -> None:
        """Check that no service gets a thread of a core that another service has alone, nor takes one from a third."""
        service = request["service_name"]
        siblings = self._siblings_met(gained)
        for name, other in self.held.items():
            if name != service:
                shared = other.alone & siblings
                require(not shared, "a thread of a core that another service has alone", request, gained, name, shared)
        system = self.machine.siblings_of(alone) & self.system
        require(not system, "isolate next to the operating system", request, alone, system)
        for name, other in self.held.items():
            shared = other.cpus & self._siblings_met(alone)
            if name == service:
                shared &= self.machine.online  # the node of an offline CPU is not always known
            online = "" if shared & self.machine.online or not shared else " (offline)"
            require(not shared, f"isolate next to a CPU that is owned{online}", request, alone, name, shared)

    # --- what the daemon lists and has stored ---------------------------------------------------------------------

    def check_listings(self, listings: Mapping[str, Json], memory: Json) -> None:
        """Compare with the reading actions, and learn from them which CPUs are withheld."""
        self._meet()
        listed: dict[str, Json] = {}
        owners: dict[int, str] = {}
        for pool, listing in listings.items():
            if "error" in listing:
                continue
            require("state_error" not in listing, "a state that cannot be used", listing.get("state_error"))
            self._check_sums(pool, listing)
            listed |= {entry["service_name"]: entry for entry in listing["allocations"]}
        self._settle_releases(listed.keys())
        require(listed.keys() == self.held.keys(), "other services", sorted(listed), "expected", sorted(self.held))
        for service, entry in listed.items():
            self._check_entry(service, entry)
            for cpu in self.held[service].cpus | self.held[service].withheld:
                require(
                    owners.setdefault(cpu, service) == service, "CPUs withheld and owned", cpu, service, owners[cpu]
                )
        granted_now = self.eligible("isolated") | self.eligible("general")
        for service, held in self.held.items():
            left = (self._siblings_met(held.alone) & granted_now) - owners.keys()
            require(not left, "a thread of an isolated core that is not withheld", service, left, held)
        for pool in listings:
            remaining = listings[pool].get("remaining_available_cpus", 0)
            require(remaining == len(self.free(pool)), "a wrong remainder listed", listings[pool], self.free(pool))
        records = {
            (service, int(node.removeprefix("node")), int(size)): count
            for node, info in memory["numa_hugepages"].items()
            for service, sizes in info["allocations"].items()
            for size, count in sizes.items()
        }
        require(records == self.pages, "other hugepage records", records, "expected", self.pages)
        for node, info in memory["numa_hugepages"].items():
            for kind in info["capacity"]:
                left = self.free_pages(int(node.removeprefix("node")), kind["size"])
                require(kind["free"] == left, "other free hugepages", node, kind, f"{left} are left")

    def _check_sums(self, pool: str, listing: Json) -> None:
        """Whether a listing agrees with itself and with the pool as it is."""
        summary, entries = listing["cpu_pool"], listing["allocations"]
        owned = [cpu for entry in entries for cpu in parse_cpus(entry["allocated_cores"])]
        names = [entry["service_name"] for entry in entries]
        require(parse_cpus(summary["eligible_cpus"]) == self.eligible(pool), "another pool", listing)
        require(names == sorted(set(names)), "services twice or out of order", listing)
        require(listing["total_allocations"] == len(entries), "a wrong total listed", listing)
        require(listing["total_allocated_cpus"] == len(owned), "a wrong total listed", listing)
        require(listing["total_available_cpus"] == len(self.eligible(pool)), "a wrong total listed", listing)
        unavailable = parse_cpus(summary["unavailable_allocated_cpus"])
        require(unavailable == set(owned) - self.eligible(pool), "other unavailable CPUs", listing)
        require({*listing["outdated_placements"]} <= {*names}, "an outdated placement of an unknown service", listing)

    def _check_entry(self, service: str, entry: Json) -> None:
        held = self.held[service]
        cpus = parse_cpus(entry["allocated_cores"])
        held.lose(held.unsure - cpus)
        held.unsure = set()
        held.withheld = parse_cpus(entry.get("withheld_cpus", ""))
        require(cpus == held.cpus, "other CPUs than were granted", service, cpus, "expected", held.cpus)
        said = entry["pool"], entry["preemption_policy"], entry["is_explicit"]
        require(said == (held.pool, held.preemption_policy, bool(held.explicit)), "another claim", entry, held)
        # The other threads of an offline CPU are not always known.
        beyond = held.withheld & self.machine.online - self.machine.siblings_of(held.cpus)
        require(
            not beyond or not held.cpus <= self.machine.online,
            "CPUs withheld of cores that the service has left",
            service,
            beyond,
            held,
        )

    def check_totals(self, request: Json, answer: Json) -> None:
        """Compare the totals in the answer to the last change with the pool after it."""
        pool = pool_of(request)
        free = self.free(pool)
        require(answer["total_available_cpus"] == len(self.eligible(pool)), "a wrong total", request, answer)
        require(answer["remaining_available_cpus"] == len(free), "a wrong remainder", request, answer, free)
        if "shared_cpus" in answer:
            require(parse_cpus(answer["shared_cpus"]) == free, "wrong shared_cpus", request, answer, free)
            if _is_for_default_size(request) and not free:
                require("warnings" in answer, "no warning that nothing is shared", request, answer)
        held = self.held.get(request["service_name"])
        policy = held.preemption_policy if held else None
        require(answer["preemption_policy"] == policy, "another policy in the answer", request, answer, policy)

    def check_stored(self, claims: Iterable[Any], pages: Mapping[str, Mapping[tuple[int, int], int]]) -> None:
        """Compare with the stored claims and hugepage records."""
        stored = {claim.service: claim for claim in claims}
        require(stored.keys() == self.held.keys(), "other services stored", sorted(stored), sorted(self.held))
        for service, claim in stored.items():
            held = self.held[service]
            same = (
                (claim.pool, claim.preemption_policy) == (held.pool, held.preemption_policy)
                and set(claim.cpus) == held.cpus
                and set(claim.explicit) == held.explicit
            )
            require(same, "another claim stored", claim, held)
        records = {(service, *kind): count for service, counts in pages.items() for kind, count in counts.items()}
        require(records == self.pages, "other hugepage records stored", records, "expected", self.pages)
