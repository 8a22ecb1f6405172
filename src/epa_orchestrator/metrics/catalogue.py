# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Catalogue: every metric by name, with its type, unit and labels; docs/reference/metrics.md has the same table.

The names are those of Prometheus' conventions (prometheus.io/docs/practices/naming): seconds and bytes, `_total` for
what only grows.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

#: The most services that have figures of their own; all others are summed up under OTHER_SERVICES.
MOST_SERVICES: Final = 50

#: The label value for all services without figures of their own. A service of this name is one of them.
OTHER_SERVICES: Final = "(other)"

#: The label value for CPUs in no pool, and for CPUs in no NUMA node.
NONE: Final = "none"


class Metric(NamedTuple):
    """A metric: its name without the suffixes of its type, its type, a sentence for people, and its labels."""

    name: str
    type: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The name as Prometheus stores it."""
        return f"{self.name}_total" if self.type == "counter" else self.name


BUILD_INFO: Final = Metric("epa_build_info", "gauge", "Always 1; the label names the daemon's version.", ("version",))
READ_ONLY: Final = Metric("epa_read_only", "gauge", "1 while the daemon serves readings only, else 0.")
WARNINGS: Final = Metric("epa_warnings", "gauge", "Warnings that the command status shows.")

CPUS: Final = Metric(
    "epa_cpus",
    "gauge",
    "CPUs by pool, NUMA node and state. The states add up to all CPUs of the host.",
    ("pool", "node", "state"),
)
LARGEST_FREE_NODE: Final = Metric(
    "epa_largest_free_node_cpus", "gauge", "Free CPUs of the NUMA node that has the most of them.", ("pool",)
)
FREE_L3_DOMAINS: Final = Metric(
    "epa_free_l3_domains", "gauge", "L3 cache domains in which all CPUs of the pool are free.", ("pool",)
)
CLAIMS: Final = Metric("epa_claims", "gauge", "Services that hold CPUs of the pool.", ("pool",))
CLAIMS_OUTSIDE_POOL: Final = Metric(
    "epa_claims_outside_pool", "gauge", "Claims with online CPUs that are no longer in the claim's pool.", ("pool",)
)
OUTDATED_PLACEMENTS: Final = Metric(
    "epa_outdated_placements", "gauge", "Claims that the options in use would place differently."
)
SERVICE_CPUS: Final = Metric(
    "epa_service_cpus",
    "gauge",
    f"CPUs that a service owns. Only the {MOST_SERVICES} largest services; {OTHER_SERVICES} is the sum of the rest.",
    ("pool", "service"),
)

HUGEPAGES: Final = Metric(
    "epa_hugepages_bytes", "gauge", "All hugepages of this size on the NUMA node.", ("node", "page_size")
)
HUGEPAGES_FREE: Final = Metric(
    "epa_hugepages_free_bytes", "gauge", "Hugepages that can still be recorded.", ("node", "page_size")
)
HUGEPAGES_RECORDED: Final = Metric(
    "epa_hugepages_recorded_bytes", "gauge", "Hugepages that are recorded for services.", ("node", "page_size")
)
SERVICE_HUGEPAGES: Final = Metric(
    "epa_service_hugepages_bytes",
    "gauge",
    f"Hugepages recorded for a service. Only the {MOST_SERVICES} largest; {OTHER_SERVICES} is the sum of the rest.",
    ("service",),
)

ISOLATION_CHECK: Final = Metric(
    "epa_isolation_check",
    "gauge",
    "1 for the result that a check of the host's isolation has, 0 for the others: pass, warn, fail or not-checked.",
    ("check", "result"),
)
ISOLATION_READING: Final = Metric(
    "epa_isolation_reading_timestamp_seconds", "gauge", "When the isolation of the host was last read."
)
CLAIM_INTERRUPTIONS: Final = Metric(
    "epa_claim_interruptions",
    "counter",
    "Interrupts on the CPUs of a claim since it was granted, by kind: tick, device, ipi or other."
    f" Only the {MOST_SERVICES} largest services; {OTHER_SERVICES} is the sum of the rest, as in all such figures.",
    ("pool", "service", "kind"),
)
CLAIM_WAIT_SECONDS: Final = Metric(
    "epa_claim_wait_seconds",
    "counter",
    "How long threads have waited for the CPUs of a claim since it was granted.",
    ("pool", "service"),
)
CLAIM_INVOLUNTARY_SWITCHES: Final = Metric(
    "epa_claim_involuntary_switches",
    "counter",
    "How often other threads have interrupted those of a claim's owner since it was granted.",
    ("pool", "service"),
)
CLAIM_STRANGERS: Final = Metric(
    "epa_claim_strangers", "gauge", "Threads of others at work on the CPUs of a claim.", ("pool", "service")
)
CLAIM_STACKED_THREADS: Final = Metric(
    "epa_claim_stacked_threads",
    "gauge",
    "Threads of a claim's owner that share a CPU while another CPU of the claim idles.",
    ("pool", "service"),
)

REQUESTS: Final = Metric(
    "epa_requests",
    "counter",
    "Requests by action and outcome: served, refused, dry-run (also a refused one), denied or failed.",
    ("action", "outcome"),
)
REFUSALS: Final = Metric(
    "epa_refusals", "counter", "Requests that were not served, by the rule that refused them.", ("rule",)
)
REQUEST_SECONDS: Final = Metric(
    "epa_request_duration_seconds",
    "histogram",
    "From the last byte of a request to its answer, handed over to the socket.",
    ("action",),
)
COMMIT_SECONDS: Final = Metric("epa_commit_duration_seconds", "histogram", "How long a commit to the disk took.")
COMMIT_REQUESTS: Final = Metric("epa_commit_requests", "histogram", "Requests that changed something in one commit.")
FAILED_COMMITS: Final = Metric("epa_commit_failures", "counter", "Commits that failed; nothing was changed then.")

CONNECTIONS: Final = Metric("epa_connections", "gauge", "Clients that are connected to the socket.")
REFUSED_CONNECTIONS: Final = Metric(
    "epa_connections_refused", "counter", "Connections closed at once because their user had too many."
)
TIMEOUTS: Final = Metric(
    "epa_connection_timeouts", "counter", "Connections closed because the client took too long to send or to read."
)

CATALOGUE: Final = (
    *(BUILD_INFO, READ_ONLY, WARNINGS),
    *(CPUS, LARGEST_FREE_NODE, FREE_L3_DOMAINS, CLAIMS, CLAIMS_OUTSIDE_POOL, OUTDATED_PLACEMENTS, SERVICE_CPUS),
    *(HUGEPAGES, HUGEPAGES_FREE, HUGEPAGES_RECORDED, SERVICE_HUGEPAGES),
    *(ISOLATION_CHECK, ISOLATION_READING, CLAIM_INTERRUPTIONS, CLAIM_WAIT_SECONDS, CLAIM_INVOLUNTARY_SWITCHES),
    *(CLAIM_STRANGERS, CLAIM_STACKED_THREADS),
    *(REQUESTS, REFUSALS, REQUEST_SECONDS, COMMIT_SECONDS, COMMIT_REQUESTS, FAILED_COMMITS),
    *(CONNECTIONS, REFUSED_CONNECTIONS, TIMEOUTS),
)
