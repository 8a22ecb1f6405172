# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""History: the models of the answers to get_history and get_claim."""

from __future__ import annotations

import operator
from typing import Any, Final

from pydantic import BaseModel, Field
from pydantic_core import to_json

from epa_orchestrator.protocol.answers import Allocation, Answer, PageRecord, add_warnings

#: The fields of an event that are left out when they are not known.
_LEFT_OUT: Final = frozenset(("comm", "snap", "unit", "request", "settings", "decided_by"))

#: Text, numbers, and an object of texts: what the records of an event hold.
Record = dict[str, str | int | float | bool | dict[str, str]]

#: The options that are not at their default.
Options = dict[str, str | int | bool | list[str]]


class HistoryEvent(BaseModel):
    """One change of a claim or of a hugepage record."""

    id: int | None = Field(description="The number of the event; a later one has a higher number.")
    at: float | None = Field(description="When it was made, in seconds since 1970.")
    service: str | None = Field(description="The service whose claim or record changed.")
    before: Record | None = Field(
        description="What the service held before, `null` for nothing: of CPUs `pool`, `cpus`, `explicit`, `policy` and"
        " `withheld`, of hugepages `node_id`, `size_kb` and `hugepages`."
    )
    after: Record | None = Field(description="What it holds afterwards, in the same form.")
    pid: int | None = Field(description="The process that asked; 0 if it is in another PID namespace.")
    uid: int | None = Field(description="Its user.")
    gid: int | None = Field(description="Its group.")
    action: str | None = Field(description="The action of the request; `import` for the first start.")
    taken_from: dict[str, str] = Field(
        default_factory=dict[str, str],
        exclude_if=operator.not_,
        description="The services that lost CPUs to this one, and which, a CPU list.",
    )
    taken_from_others: int = Field(
        default=0, exclude_if=operator.not_, description="How many more services lost CPUs; they are not named."
    )
    taken_by: dict[str, str] = Field(
        default_factory=dict[str, str],
        exclude_if=operator.not_,
        description="The service that took CPUs from this one, and which, a CPU list.",
    )
    comm: str | None = Field(default=None, description="The name of the process's command; it chooses that itself.")
    snap: str | None = Field(default=None, description="The snap that the process ran in.")
    unit: str | None = Field(default=None, description="The systemd unit that it ran in.")
    request: Record | None = Field(
        default=None, description="The fields of the request that were not at their default."
    )
    settings: str | None = Field(
        default=None, description="The digest of the settings in force: 12 hexadecimal digits."
    )
    decided_by: str | None = Field(default=None, description="A sentence that says what decided.")
    damaged: list[str] = Field(
        default_factory=list[str],
        exclude_if=operator.not_,
        description="The fields that the database cannot give any longer; they are `null`.",
    )

    def document(self) -> dict[str, Any]:
        """The event as JSON: what is not known is left out, and what is damaged is null."""
        return {
            name: value
            for name, value in self.model_dump().items()
            if value is not None or name not in _LEFT_OUT or name in self.damaged
        }


class HistoryAnswer(Answer):
    """The answer to get_history."""

    events: list[HistoryEvent] = Field(
        description="The newest events that were asked for, or with `after` the oldest ones; the newest one last."
    )
    more: bool = Field(
        description="Whether more events that were asked for are left out: older ones, or with `after` newer ones."
    )
    state_error: str | None = Field(default=None, description="Why the daemon serves only the reading actions.")


class Origin(BaseModel):
    """CPUs of a claim, and the event by which the service got them."""

    cpus: str = Field(description="The CPUs, a CPU list.")
    id: int = Field(description="The event.")
    at: float | None = Field(description="When that was, in seconds since 1970; `null` if the time is damaged.")


class ClaimAnswer(Answer):
    """The answer to get_claim."""

    service_name: str | None = Field(
        default=None, description="The service: as requested, or the owner of the CPU; left out for a CPU without one."
    )
    cpu: int | None = Field(default=None, description="The CPU, if the request named one.")
    state: str | None = Field(default=None, description="The [state](#get_machine) of that CPU, such as `free`.")
    core: str | None = Field(default=None, description="The threads of its core, a CPU list.")
    withheld_by: str | None = Field(
        default=None, description="The service whose claim has that core alone, if the CPU is withheld."
    )
    claim: Allocation | None = Field(default=None, description="What the service holds, as in a listing.")
    unavailable: dict[str, str] = Field(
        default_factory=dict[str, str],
        exclude_if=operator.not_,
        description="By [reason](#absences), those of its CPUs that it cannot use now, a CPU list.",
    )
    no_longer_withheld: dict[str, str] = Field(
        default_factory=dict[str, str],
        exclude_if=operator.not_,
        description="By [reason](#absences), CPUs on cores that were promised to the claim alone, which are withheld"
        " for it no longer, a CPU list: others may run there.",
    )
    numa_nodes: str | None = Field(default=None, description="The NUMA nodes of its CPUs, as a list of ids.")
    l3_domains: int | None = Field(default=None, description="How many L3 domains its CPUs are in.")
    core_neighbours: dict[str, str] = Field(
        default_factory=dict[str, str],
        exclude_if=operator.not_,
        description="Other services on the same cores, and their CPUs there, a CPU list: on the core of `cpu`, or on"
        " all cores of the claim. At most 50.",
    )
    hugepages: list[PageRecord] = Field(description="The hugepage records of the service.")
    granted: HistoryEvent | None = Field(
        default=None,
        description="The newest event by which the service got CPUs that it holds (`cpu`, if the request named one)."
        " Without CPUs: the newest event of a hugepage record that it has. Left out when the history has none any"
        " longer.",
    )
    origins: list[Origin] = Field(description="When the service got each of its CPUs, the newest event first.")
    changes: list[HistoryEvent] = Field(
        description="The changes since then, of its hugepage records too unless the request named a CPU, the newest one"
        " last. For a service that holds nothing, its last changes."
    )
    more_changes: bool = Field(description="Whether older changes since then are left out.")
    settings_then: Options | None = Field(
        default=None, description="The options that were not at their default then; left out when that is not known."
    )
    settings_now: Options = Field(description="The options that are not at their default now.")
    history_error: str | None = Field(default=None, description="Why the history cannot be read.")
    state_error: str | None = Field(default=None, description="Why the daemon serves only the reading actions.")

    def encode(self) -> bytes:
        """The bytes on the wire."""
        left_out = {name for name, field in type(self).model_fields.items() if field.default is None}
        left_out = {name for name in left_out if getattr(self, name) is None} | {"warnings"}
        document = self.model_dump(exclude=left_out)
        document["changes"] = [event.document() for event in self.changes]
        if self.granted is not None:
            document["granted"] = self.granted.document()
        if self.claim is not None:
            document["claim"] = self.claim.model_dump(exclude_none=True)
        return add_warnings(to_json(document), self.warnings)
