# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""What a watching client knows: the first line, and every line after it applied to that."""

from __future__ import annotations

from typing import Any

from epa_orchestrator.cpuset import EMPTY, CpuSet

Json = dict[str, Any]


class Replica:
    """The claims and pools as a watching client knows them."""

    def __init__(self, state: Json) -> None:
        assert state["event"] == "state"
        listings = [state, *([state["other_pool"]] if "other_pool" in state else [])]
        self.claims: dict[str, Json] = {
            each["service_name"]: each for listing in listings for each in listing["allocations"]
        }
        self.pools: dict[str, Json] = {each["pool"]: _without_claims(each) for each in listings}
        self.state_error = state.get("state_error")
        self.warnings = state.get("warnings", [])
        self.records: dict[tuple[str, int, int], int] = {
            (service, each["node_id"], each["size_kb"]): each["hugepages"]
            for service, records in state["hugepages"].items()
            for each in records
        }

    def apply(self, line: Json) -> None:
        """Apply a line; it must continue what is known, and never give a CPU two owners."""
        match line["event"]:
            case "claim":
                self._apply_claim(line)
            case "machine":
                self.pools = {name: _without_claims(pool) for name, pool in line["pools"].items()}
                self.state_error, self.warnings = line.get("state_error"), line.get("warnings", [])
            case "hugepages":
                kind = line["service_name"], line["node_id"], line["size_kb"]
                assert self.records.get(kind, 0) == line["before"] != line["after"]
                self.records[kind] = line["after"]
            case other:
                raise AssertionError(f"unknown event {other}")

    def _apply_claim(self, line: Json) -> None:
        service = line["service_name"]
        assert self.claims.get(service) == line["before"] != line["after"], line
        if line["after"] is None:
            del self.claims[service]
        else:
            self.claims[service] = line["after"]
        owned = [CpuSet.parse(claim["allocated_cores"]) for claim in self.claims.values()]
        assert sum(map(len, owned)) == len(_union(owned)), f"two owners after {line}"

    def check(self, listing: Json) -> None:
        """Check that a listing says what is known, but for the outdated placements, which come a moment later."""
        if "error" in listing:
            assert "not configured" in listing["error"]
            assert "general" not in self.pools
            return
        claims = {name: claim for name, claim in sorted(self.claims.items()) if claim["pool"] == listing["pool"]}
        assert list(claims.values()) == listing["allocations"]
        assert self.state_error == listing.get("state_error")
        assert self.warnings == listing.get("warnings", [])
        pool = self.pools.get(listing["pool"])
        if pool is None:  # it is not configured, and listed only because of claims in it
            return
        eligible = CpuSet.parse(pool["cpu_pool"]["eligible_cpus"])
        owned = _union([CpuSet.parse(claim["allocated_cores"]) for claim in claims.values()])
        withheld = _union([CpuSet.parse(claim.get("withheld_cpus", "")) for claim in self.claims.values()])
        everywhere = _union([CpuSet.parse(claim["allocated_cores"]) for claim in self.claims.values()])
        assert listing["cpu_pool"] == pool["cpu_pool"] | {"unavailable_allocated_cpus": str(owned - eligible)}
        assert listing["total_available_cpus"] == pool["total_available_cpus"] == len(eligible)
        assert listing["remaining_available_cpus"] == len(eligible - everywhere - withheld)


def _union(sets: list[CpuSet]) -> CpuSet:
    union = EMPTY
    for each in sets:
        union |= each
    return union


def _without_claims(listing: Json) -> Json:
    return {name: listing[name] for name in ("cpu_pool", "total_available_cpus")}
