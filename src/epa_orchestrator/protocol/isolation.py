# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Isolation: the models of the answer to get_isolation."""

from __future__ import annotations

import operator
from typing import Literal

from pydantic import BaseModel, Field
from pydantic_core import to_json

from epa_orchestrator.names import PoolName
from epa_orchestrator.protocol.answers import Answer, add_warnings


class CheckResult(BaseModel):
    """What one check of the audit has found."""

    id: str = Field(description="The check, such as `B3`.")
    result: Literal["fail", "warn", "not-checked", "pass"] = Field(description="The result.")
    seen: str = Field(description='What was seen; for `not-checked` what is missing, as "needs …".')
    why: str = Field(description="Why the check matters.")
    remedy: str = Field(description="What to do; empty where nothing has to be done.")
    since: str = Field(description="The time of the reading since which the result is this one, in UTC, by ISO 8601.")


class ClaimOwner(BaseModel):
    """What is known of the process that asked for a claim's CPUs, by the newest event that granted some of them."""

    snap: str | None = Field(description="The snap that it ran in.")
    unit: str | None = Field(description="The systemd unit that it ran in.")
    comm: str | None = Field(description="The name of its command; it chooses that itself.")
    pid: int | None = Field(description="The process; another process may have this number by now.")
    asked_at: float | None = Field(description="When it asked, in seconds since 1970.")
    cgroups: list[str] = Field(
        description="The control groups that the option `owner-cgroups` names for the service; they count instead of"
        " the process."
    )


class NoiseCounts(BaseModel):
    """What disturbed the CPUs of a claim in a time."""

    seconds: float = Field(description="How long that time is.")
    ticks: int = Field(description="Timer interrupts.")
    interrupts: dict[str, int] = Field(
        description="Interrupts of devices, by the device's name and number. At most 16 devices; `(other)` is the rest."
    )
    ipis: int = Field(description="Interrupts that other CPUs sent.")
    other: int = Field(description="All other interrupts.")
    waited_seconds: float | None = Field(
        description="How long tasks waited for these CPUs; `null` where the kernel does not tell."
    )
    involuntary_switches: int | None = Field(
        description="How often other tasks interrupted the owner's threads; `null` where that is not known."
    )


class NoisyThread(BaseModel):
    """A thread that disturbs a claim, or that is not where it should be."""

    pid: int = Field(description="The process.")
    tid: int = Field(description="The thread.")
    name: str = Field(description="Its name; it chooses that itself.")
    cpu: int = Field(description="The CPU where it runs, or ran last.")
    cgroup: str | None = Field(description="Its control group; `null` where that is not known.")


class ClaimIsolation(BaseModel):
    """A claim, and who disturbs its owner."""

    service_name: str = Field(description="The service.")
    pool: PoolName = Field(description="The pool.")
    allocated_cores: str = Field(description="Its CPUs, a CPU list.")
    owner: ClaimOwner = Field(description="Who asked for them.")
    since: float | None = Field(
        description="The time of the reading from which `noise` counts, in seconds since 1970: the first one after the"
        " service got one of its present CPUs, or the boot if it had them before."
    )
    noise: NoiseCounts | None = Field(description="What disturbed it since then; `null` where that is not known.")
    now: NoiseCounts | None = Field(description="What disturbed it between the last two readings.")
    strangers: list[NoisyThread] = Field(description="Threads of others at work on its CPUs. At most 8.")
    outside: list[NoisyThread] = Field(description="Threads of the owner that may run outside its CPUs. At most 8.")
    stacked: list[NoisyThread] = Field(
        description="Threads of the owner that share a CPU while another CPU of the claim idles. At most 8."
    )
    more_threads: dict[str, int] = Field(
        default_factory=dict[str, int],
        exclude_if=operator.not_,
        description="By the name of such a list, how many more threads it would have.",
    )
    culprit: str | None = Field(description="Who causes most of the noise; `null` where there is hardly any.")
    remedy: str | None = Field(description="What to do about that.")
    problem: str | None = Field(description="Why something is `null` that could be known.")


class IsolationAnswer(Answer):
    """The answer to get_isolation."""

    read_at: float | None = Field(
        description="When the host was last read, in seconds since 1970; `null` before the first reading, which is"
        " made soon after the start."
    )
    checks: list[CheckResult] = Field(description="The results of all checks at that time; empty before.")
    claims: list[ClaimIsolation] = Field(
        description="The present claims of both pools, or the one of the service, ordered by service name."
    )
    state_error: str | None = Field(default=None, description="Why the daemon serves only the reading actions.")

    def encode(self) -> bytes:
        """The bytes on the wire. One claim after the other is encoded, because no other thread runs meanwhile."""
        head = self.model_dump_json(exclude={"claims", "state_error", "warnings"}).encode()
        claims = b",".join([claim.model_dump_json().encode() for claim in self.claims])
        problem = b"" if self.state_error is None else b',"state_error":' + to_json(self.state_error)
        return add_warnings(b'%b,"claims":[%b]%b}' % (head[:-1], claims, problem), self.warnings)
