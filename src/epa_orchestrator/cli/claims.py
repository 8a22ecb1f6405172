# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The commands `allocate` and `explain`: the CPUs that a service gets, or would get."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from epa_orchestrator.cli.connect import connect, require_feature
from epa_orchestrator.cli.consent import require_consent, show_taken
from epa_orchestrator.cli.make_room import connect_with_hint, show_room
from epa_orchestrator.cli.options import (
    CountArgument,
    CpuThreadPolicyOption,
    DefaultSizeOption,
    JsonOption,
    NearOption,
    NumaNodeOption,
    NumaPolicyOption,
    OldPolicyOption,
    PercentOption,
    PoolOption,
    PreemptionPolicyOption,
    ServiceArgument,
    SocketOption,
    UncoreCacheAlignmentOption,
)
from epa_orchestrator.cli.output import EXIT_REFUSED, Misuse, fail, note_change, print_json, print_line, say, warn
from epa_orchestrator.units import count_of, named_cpus

if TYPE_CHECKING:
    from collections.abc import Callable

    from epa_orchestrator.client import Client, RefusedByDaemon
    from epa_orchestrator.protocol.answers import Allocated, CoresAnswer, Explanation, NumaCoresAnswer, PercentAnswer

    Granted = tuple[CoresAnswer | PercentAnswer | NumaCoresAnswer, str]

#: What a daemon without dry runs cannot do.
_DRY_RUNS: Final = "do dry runs and would really allocate"


def allocate(
    service: ServiceArgument,
    count: CountArgument = None,
    default_size: DefaultSizeOption = False,
    percent: PercentOption = None,
    numa_node: NumaNodeOption = None,
    preemption_policy: PreemptionPolicyOption = None,
    policy: OldPolicyOption = None,
    numa_policy: NumaPolicyOption = None,
    cpu_thread_policy: CpuThreadPolicyOption = None,
    uncore_cache_alignment: UncoreCacheAlignmentOption = None,
    near: NearOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the CPUs, and change nothing.")] = False,
    take: Annotated[
        bool, typer.Option("--take", help="Take CPUs of other services without a question, as the rules allow.")
    ] = False,
    pool: PoolOption = "isolated",
    socket: SocketOption = None,
    json_: JsonOption = False,
) -> None:
    """Give a service CPUs: COUNT in all, those that it holds included.

    The CPU list alone is on stdout. If other services would lose CPUs to it, the command asks first.

    Examples:
      epa-orchestrator allocate nova 16
      epa-orchestrator allocate ovs-dpdk 4 --near eth0 --cpu-thread-policy require
      epa-orchestrator allocate ceph-osd 8 --numa-node 1 --dry-run
      taskset -c "$(epa-orchestrator allocate mine 2)" COMMAND
    """
    _check_amount(count, percent, numa_node, near, default_size=default_size)
    fields = {
        "pool": pool,
        "preemption_policy": policy if preemption_policy is None else preemption_policy,
        **_wishes(numa_policy, cpu_thread_policy, uncore_cache_alignment, near),
    }
    size = 0 if default_size else count
    asked = {"service_name": service, "num_of_cores": size, "percent": percent, "numa_node": numa_node, **fields}
    with connect_with_hint(socket, asked) as client:
        request = partial(_request_cpus, client, service, count or 0, percent, numa_node, **fields)
        if dry_run:
            require_feature(client, "dry-run", _DRY_RUNS)
            answer, cpus = request(dry_run=True)
        elif take:
            answer, cpus = request()
        else:
            require_feature(client, "may-take", "say whose CPUs it would take", ", or add --take to allow it")
            answer, cpus = _request_with_consent(service, request)
    warn(answer.warnings)
    show_taken(service, answer.taken, "would lose" if dry_run else "lost")
    if not dry_run:
        note_change(f"'{service}' has {named_cpus(cpus)}")
    if json_:
        print_json(_as_sent(answer))
        return
    free = f"{answer.remaining_available_cpus} of {count_of(answer.total_available_cpus, 'CPU')}"
    print_line(cpus)
    if dry_run:
        say(f"{free} would still be free; dry run: nothing was changed", err=True)
    else:
        say(f"{free} still free", err=True)


def explain(
    service: ServiceArgument,
    count: CountArgument = None,
    default_size: DefaultSizeOption = False,
    percent: PercentOption = None,
    numa_node: NumaNodeOption = None,
    preemption_policy: PreemptionPolicyOption = None,
    policy: OldPolicyOption = None,
    numa_policy: NumaPolicyOption = None,
    cpu_thread_policy: CpuThreadPolicyOption = None,
    uncore_cache_alignment: UncoreCacheAlignmentOption = None,
    near: NearOption = None,
    make_room: Annotated[
        bool,
        typer.Option("--make-room", help="If the request is refused, show which claims could move to make room."),
    ] = False,
    pool: PoolOption = "isolated",
    socket: SocketOption = None,
    json_: JsonOption = False,
) -> None:
    """Show which CPUs a service would get, and why. If a rule refuses them, show the rule. Nothing changes.

    Examples:
      epa-orchestrator explain nova 16
      epa-orchestrator explain nova 16 --numa-policy single-numa-node
      epa-orchestrator explain nova 16 --numa-node 1 --make-room
    """
    from epa_orchestrator.client import RefusedByDaemon

    _check_amount(count, percent, numa_node, near, default_size=default_size)
    fields = {
        "pool": pool,
        "preemption_policy": policy if preemption_policy is None else preemption_policy,
        "explain": True,
        **_wishes(numa_policy, cpu_thread_policy, uncore_cache_alignment, near),
    }
    with connect(socket) as client:
        require_feature(client, "dry-run", _DRY_RUNS)
        if make_room:
            require_feature(client, "make-room", "say what makes room", ", or leave out --make-room")
            fields["make_room"] = True
        try:
            answer, cpus = _request_cpus(client, service, count or 0, percent, numa_node, dry_run=True, **fields)
        except RefusedByDaemon as error:
            if error.explanation is None and error.make_room is None:
                raise
            _end_refused(error, json_=json_)
    warn(answer.warnings)
    show_taken(service, answer.taken, "would lose")
    if json_:
        print_json(_as_sent(answer))
    elif answer.explanation is not None:
        _show_explanation(answer.explanation, f"{service} would get {named_cpus(cpus)}")


def _end_refused(error: RefusedByDaemon, *, json_: bool) -> NoReturn:
    """End the command with all that the daemon says about a refusal."""
    parts = {"explanation": error.explanation, "make_room": error.make_room}
    if error.explanation is not None and not json_:
        _show_explanation(error.explanation)
    if error.make_room is not None and not json_:
        show_room(error.make_room)
    warn(error.warnings)
    details = {name: part.model_dump(exclude_none=True) for name, part in parts.items() if part is not None}
    fail(str(error), EXIT_REFUSED, **details)


def _check_amount(
    count: int | None, percent: int | None, numa_node: int | None, near: str | None, *, default_size: bool
) -> None:
    """Check that one option says how many CPUs, and no other contradicts it."""
    if percent is not None and (numa_node is not None or count is not None):
        raise Misuse("--percent goes with neither COUNT nor --numa-node: leave them out")
    if default_size and (count is not None or percent is not None or numa_node is not None):
        raise Misuse("--default-size goes with neither COUNT, --percent nor --numa-node: leave them out")
    if count is None and percent is None and not default_size:
        raise Misuse("say how many CPUs: give COUNT, --percent or --default-size")
    if count == 0:
        raise Misuse("COUNT must be at least 1, not 0: --default-size gives the default size")
    if near is not None and numa_node is not None:
        raise Misuse("--near does not go with --numa-node, which says where: leave one of them out")


def _wishes(
    numa_policy: str | None, cpu_thread_policy: str | None, uncore_cache_alignment: str | None, near: str | None
) -> dict[str, Any]:
    """The request's wishes for its placement, as fields of the protocol."""
    return {
        "numa_policy": numa_policy,
        "cpu_thread_policy": cpu_thread_policy,
        "uncore_cache_alignment": uncore_cache_alignment,
        "near": _near(near),
    }


def _near(text: str | None) -> int | str | None:
    """A NUMA node as a number; any other text as it is, for the daemon to check."""
    if text is not None and text.isascii() and text.isdecimal() and len(text) < 10:
        return int(text)
    return text


def _request_with_consent(service: str, request: Callable[..., Granted]) -> Granted:
    """Request CPUs, but first ask whether they may be taken from those who would lose them.

    The request names what a dry run would take. If it would take anything else by now, the daemon refuses it.
    """
    from epa_orchestrator.client import RefusedByDaemon

    tried, _ = request(dry_run=True)
    if tried.taken:
        warn(tried.warnings)
        require_consent(service, tried.taken)
    try:
        return request(may_take=tried.taken)
    except RefusedByDaemon as error:
        if "may_take" in str(error):
            fail(f"Nothing was changed: {error}. Run the command again to be asked again, or add --take")
        raise


def _request_cpus(
    client: Client, service: str, count: int, percent: int | None, numa_node: int | None, **fields: Any
) -> Granted:
    """Request CPUs by count, percentage or NUMA node; returns the answer and its CPUs."""
    if percent is not None:
        by_percent = client.allocate_percent(service, percent, **fields)
        return by_percent, by_percent.allocated_cores
    if numa_node is not None:
        in_node = client.allocate_in_node(service, numa_node, count, **fields)
        return in_node, in_node.cores_allocated
    by_count = client.allocate(service, count, **fields)
    return by_count, by_count.allocated_cores


def _as_sent(answer: Allocated) -> object:
    """The answer as the daemon sent it."""
    return json.loads(answer.encode())


def _show_explanation(explanation: Explanation, granted: str | None = None) -> None:
    """Print the reasons of a refusal, or the sentence about what is granted and its reasons."""
    from epa_orchestrator.cli.explanations import explanation as parts
    from epa_orchestrator.cli.show import show

    show(*([] if granted is None else [granted]), *parts(explanation, refused=granted is None))
