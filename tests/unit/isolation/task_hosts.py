# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Task hosts: readings and cases of the host of `tests.isolated_hosts`, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable

from epa_orchestrator.isolation.case import Case, Owner, Terms
from epa_orchestrator.isolation.facts import Facts, read_facts
from epa_orchestrator.isolation.findings import Finding
from epa_orchestrator.isolation.host_files import RecordedHost
from epa_orchestrator.isolation.judge import judge
from tests.isolated_hosts import OWNERS, IsolatedHost

#: The time of the first reading; the host was booted 5,000 s before.
NOW = 1_000_000.0

DEFAULT = Terms()


def reading(host: IsolatedHost, at: float = NOW) -> Facts:
    """The host as it is now."""
    return read_facts(RecordedHost(host.files()), at)


def once(host: IsolatedHost, owners: tuple[Owner, ...] | None = OWNERS, terms: Terms = DEFAULT) -> Case:
    """A case with one reading."""
    return Case(reading(host), owners=owners, terms=terms)


def twice(
    host: IsolatedHost,
    owners: tuple[Owner, ...] | None = OWNERS,
    between: Callable[[], object] = lambda: None,
    terms: Terms = DEFAULT,
) -> Case:
    """A case with two readings, 10 s apart, between which something happens."""
    earlier = reading(host)
    host.go_on(10.0)
    between()
    return Case(reading(host, NOW + 10.0), earlier=earlier, owners=owners, terms=terms)


def found(case: Case, check: str) -> Finding:
    """The finding of a check."""
    (finding,) = (each for each in judge(case) if each.id == check)
    return finding
