"""The command line `epa-orchestrator`: serve, and ask or look into what is served.

Exit codes: 0 done, 1 refused or failed, 2 wrong use of the command line, 3 no daemon answers (or something that is no
daemon), 4 the daemon serves reading actions only.
"""

from __future__ import annotations

import io
import json
import platform
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from epa_orchestrator import __version__, paths
from epa_orchestrator.errors import printable

if TYPE_CHECKING:
    from epa_orchestrator.client.client import Client
    from epa_orchestrator.hardware.sysfs import Recorder, Sysfs
    from epa_orchestrator.protocol.answers import Allocated, CoresAnswer, Explanation, NumaCoresAnswer, PercentAnswer
    from epa_orchestrator.state.store import Event

EXIT_REFUSED: Final = 1
EXIT_UNREACHABLE: Final = 3
EXIT_READ_ONLY: Final = 4

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

Service = Annotated[str, typer.Argument(help="Who shall own the CPUs.")]
Count = Annotated[int, typer.Argument(help="How many in all; 0 for the default size.", min=0)]
Percent = Annotated[int | None, typer.Option(help="A percentage of the pool instead.", min=1, max=100)]
NumaNode = Annotated[int | None, typer.Option(help="COUNT CPUs of this NUMA node only.", min=0)]
PolicyOption = Annotated[str | None, typer.Option("--policy", help="legacy or non-preemptive.")]
NumaPolicyOption = Annotated[
    str | None, typer.Option("--numa-policy", help="none, best-effort, restricted or single-numa-node.")
]
ThreadPolicyOption = Annotated[
    str | None, typer.Option("--cpu-thread-policy", help="prefer, share, require or isolate.")
]
UncoreOption = Annotated[str | None, typer.Option("--uncore-cache-alignment", help="none, prefer or require.")]
Near = Annotated[str | None, typer.Option(help="Near a NUMA node, a PCI address or a network interface.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
PoolOption = Annotated[str, typer.Option("--pool", help="The pool: isolated or general.")]
Socket = Annotated[Path | None, typer.Option("--socket", help="The daemon's socket.", envvar="EPA_SOCKET")]
MachineOption = Annotated[
    str | None,
    typer.Option("--machine", help="A recorded machine instead of this host: a file, or the name of one that ships."),
]


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # for characters that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="epa-orchestrator")
    except OSError as error:  # such as a full disk that the output goes to
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, AttributeError):  # it may be full or closed
                if stream is sys.stderr:
                    stream.write(f"epa-orchestrator: Something cannot be read or written: {error.strerror}\n")
            with suppress(OSError, AttributeError):  # what is left in its buffer would fail at the end of the process
                stream.close()
        sys.exit(EXIT_REFUSED)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:  # pyright: ignore[reportUnusedFunction]
    """Hand out a host's isolated CPUs and hugepages to its services."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def serve(machine: MachineOption = None) -> None:
    """Serve the socket until told to stop (SIGTERM, or Ctrl-C)."""
    from epa_orchestrator.daemon.main import Locations, StartError, run

    sysfs, name = _sysfs(machine)
    locations = Locations(
        socket_path=paths.socket_path(),
        state_directory=paths.state_directory(None if machine is None else name),
        legacy_state=paths.legacy_state(),
        settings_file=paths.settings_file(),
        sysfs=sysfs,
        sysfs_name=f"the recorded machine {name}" if machine else "this host",
        recorded=machine is not None,
    )
    try:
        run(locations)
    except StartError as error:
        _fail(str(error))


@app.command()
def status(socket: Socket = None, json_: Json = False) -> None:
    """Say whether the daemon answers, and how much is held and free in each pool."""
    with _client(socket) as client:
        listings = [client.list_allocations()]
        if general := client.general_listing():
            listings.append(general)
    problem = listings[0].state_error
    if json_:
        _print_json(
            {
                "socket": str(client.path),
                "state_error": problem,
                "pools": {each.pool: each.model_dump(exclude={"allocations", "version"}) for each in listings},
            }
        )
    else:
        _say(f"serving at {client.path}")
        for each in listings:
            free, total = each.remaining_available_cpus, each.total_available_cpus
            _say(
                f"pool {each.pool}: CPUs {each.cpu_pool.eligible_cpus or 'none'}; {free} of {total} free,"
                f" {each.total_allocated_cpus} held by {each.total_allocations} services"
            )
            if unavailable := each.cpu_pool.unavailable_allocated_cpus:
                _say(f"pool {each.pool}: CPUs {unavailable} are held but offline or no longer in the pool")
    if problem is not None:
        _say(f"READ-ONLY: {problem}", err=True)
        raise typer.Exit(EXIT_READ_ONLY)


@app.command("list")
def list_(pool: PoolOption = "isolated", socket: Socket = None, json_: Json = False) -> None:
    """Show who holds which CPUs."""
    with _client(socket) as client:
        listing = client.list_allocations(pool)
    if json_:
        _print_json(listing.model_dump(exclude_none=True))
    else:
        from epa_orchestrator.cli import tables as display

        display.console().print(display.allocations(listing))


@app.command()
def allocate(
    service: Service,
    count: Count = 0,
    percent: Percent = None,
    numa_node: NumaNode = None,
    policy: PolicyOption = None,
    numa_policy: NumaPolicyOption = None,
    cpu_thread_policy: ThreadPolicyOption = None,
    uncore_cache_alignment: UncoreOption = None,
    near: Near = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, only say what would be given.")] = False,
    pool: PoolOption = "isolated",
    socket: Socket = None,
    json_: Json = False,
) -> None:
    """Give a service CPUs, in place of what it holds."""
    wishes = _wishes(numa_policy, cpu_thread_policy, uncore_cache_alignment, near)
    more = {"preemption_policy": policy, "dry_run": dry_run, **wishes}
    with _client(socket) as client:
        answer, cpus = _allocated(client, service, count, percent, numa_node, {"pool": pool, **more})
    if json_:
        _print_json(_sent(answer))
        return
    free = f"{answer.remaining_available_cpus} of {answer.total_available_cpus}"
    if dry_run:
        _say(f"{cpus} ({free} would still be free; dry run: nothing was changed)")
    else:
        _say(f"{cpus} ({free} still free)")


@app.command()
def explain(
    service: Service,
    count: Count = 0,
    percent: Percent = None,
    numa_node: NumaNode = None,
    policy: PolicyOption = None,
    numa_policy: NumaPolicyOption = None,
    cpu_thread_policy: ThreadPolicyOption = None,
    uncore_cache_alignment: UncoreOption = None,
    near: Near = None,
    pool: PoolOption = "isolated",
    socket: Socket = None,
    json_: Json = False,
) -> None:
    """Say which CPUs a service would get and why, or which rule would refuse it. Changes nothing."""
    from epa_orchestrator.client.client import RefusedByDaemon

    wishes = _wishes(numa_policy, cpu_thread_policy, uncore_cache_alignment, near)
    more = {"pool": pool, "preemption_policy": policy, "dry_run": True, "explain": True, **wishes}
    with _client(socket) as client:
        try:
            answer, cpus = _allocated(client, service, count, percent, numa_node, more)
        except RefusedByDaemon as error:
            if error.explanation is None:
                raise
            if json_:
                _print_json({"error": str(error), "explanation": error.explanation.model_dump(exclude_none=True)})
            else:
                _show(error.explanation, refused=True)
            _fail(str(error))
    if json_:
        _print_json(_sent(answer))
    elif answer.explanation is not None:
        _say(f"{service} would get CPUs {cpus}")
        _show(answer.explanation, refused=False)


def _wishes(
    numa_policy: str | None, cpu_thread_policy: str | None, uncore_cache_alignment: str | None, near: str | None
) -> dict[str, Any]:
    """A request's own wishes, as its fields; a number is a NUMA node."""
    return {
        "numa_policy": numa_policy,
        "cpu_thread_policy": cpu_thread_policy,
        "uncore_cache_alignment": uncore_cache_alignment,
        "near": int(near) if near is not None and near.isascii() and near.isdecimal() and len(near) < 10 else near,
    }


def _allocated(
    client: Client, service: str, count: int, percent: int | None, numa_node: int | None, more: dict[str, Any]
) -> tuple[CoresAnswer | PercentAnswer | NumaCoresAnswer, str]:
    """Ask for CPUs by count, percentage or NUMA node; returns the answer and its CPUs."""
    if percent is not None and (numa_node is not None or count):
        raise typer.BadParameter("--percent goes with neither COUNT nor --numa-node")
    if more["dry_run"] and "dry-run" not in client.list_allocations().supported_cpu_features:
        _fail("This daemon knows no dry runs and would really allocate: nothing was asked of it")
    if percent is not None:
        by_percent = client.allocate_percent(service, percent, **more)
        return by_percent, by_percent.allocated_cores
    if numa_node is not None:
        in_node = client.allocate_in_node(service, numa_node, count, **more)
        return in_node, in_node.cores_allocated
    by_count = client.allocate(service, count, **more)
    return by_count, by_count.allocated_cores


def _sent(answer: Allocated) -> object:
    """The answer as the daemon sent it."""
    return json.loads(answer.encode())


def _show(found: Explanation, *, refused: bool) -> None:
    from epa_orchestrator.cli import tables as display

    console = display.console()
    for part in display.explanation(found, refused=refused):
        console.print(part)


@app.command()
def release(
    service: Annotated[str, typer.Argument(help="Whose CPUs to take back.")],
    numa_node: Annotated[int | None, typer.Option(help="Those of this NUMA node only.", min=0)] = None,
    pool: Annotated[str | None, typer.Option("--pool", help="The pool; found out if left out.")] = None,
    socket: Socket = None,
    json_: Json = False,
) -> None:
    """Take back a service's CPUs. Its hugepage records stay: see hugepages."""
    with _client(socket) as client:
        where = pool or _pool_of(client, service)
        if numa_node is None:
            answer = client.allocate(service, -1, where)
        else:
            answer = client.allocate_in_node(service, numa_node, -1, where)
    if json_:
        _print_json(_sent(answer))
    else:
        _say(f"released ({answer.remaining_available_cpus} of {answer.total_available_cpus} free)")


@app.command()
def hugepages(
    service: Annotated[str | None, typer.Argument(help="Whose record to set; none to show all.")] = None,
    node: Annotated[int, typer.Option(help="The NUMA node.", min=0)] = 0,
    size: Annotated[int, typer.Option(help="The size of a page in KiB.", min=1)] = 2048,
    count: Annotated[int | None, typer.Option(help="How many pages; -1 removes the record.", min=-1)] = None,
    socket: Socket = None,
    json_: Json = False,
) -> None:
    """Show the hugepages of every node, or record how many a service has."""
    if (service is None) != (count is None):
        raise typer.BadParameter("to set a record give SERVICE and --count; to show all give neither")
    with _client(socket) as client:
        if service is None or count is None:
            shown = client.memory_info()
            if json_:
                _print_json(shown.model_dump(exclude_none=True))
            else:
                from epa_orchestrator.cli import tables as display

                display.console().print(display.hugepages(shown))
            return
        answer = client.set_hugepages(service, node, size, count)
    if json_:
        _print_json(answer.model_dump())
    else:
        _say(answer.message)


@app.command()
def machine(
    machine: MachineOption = None,
    record: Annotated[Path | None, typer.Option(help="Write what `serve --machine` reads to this file.")] = None,
    json_: Json = False,
) -> None:
    """Show what the daemon discovers of this host: packages, NUMA nodes, L3 domains, cores, hugepages."""
    from epa_orchestrator.hardware.discovery import MachineError, read_machine
    from epa_orchestrator.hardware.hugepages import read_hugepages
    from epa_orchestrator.hardware.sysfs import Recorder, SysfsError

    sysfs, name = _sysfs(machine)
    recorder = Recorder(sysfs)
    try:
        found = read_machine(recorder)
        pages = {node_id: read_hugepages(recorder, node_id) for node_id in found.node_ids}
    except (MachineError, SysfsError) as error:
        _fail(str(error))
    if record is not None:
        _write_recording(record, name, recorder)
        typer.echo(f"recorded to {record}; serve it with: epa-orchestrator serve --machine {record}", err=True)
    if json_:
        from epa_orchestrator.hardware.describe import describe

        _print_json(describe(found, pages))
    elif record is None:
        from epa_orchestrator.cli import tables as display

        display.console().print(*display.machine(found, pages))


@app.command()
def history(
    service: Annotated[str | None, typer.Argument(help="Only this service's changes.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many, the newest.", min=1, max=2**31 - 1)] = 50,
    machine: Annotated[str | None, typer.Option(help="What `serve --machine` was given.")] = None,
    json_: Json = False,
) -> None:
    """Show what changed, when, by whom. Reads the database, so it needs the daemon's rights, not the daemon."""
    from epa_orchestrator.cli import tables as display
    from epa_orchestrator.state import store

    path = paths.state_directory(None if machine is None else Path(machine).stem) / store.FILE_NAME
    if service is not None:
        service = service.encode("utf-8", "replace").decode()
    try:
        events = store.read_events(path, service, limit)
    except store.StateError as error:
        _fail(f"The state database {path} {error}")
    if json_:
        _print_json([_event(event) for event in events])
    else:
        display.console().print(display.history(events))


def _event(event: Event) -> dict[str, Any]:
    """A line of the history in JSON; what is damaged is null, and `damaged` names it."""
    document = {
        "id": event.id,
        "at": event.at,
        "service": event.service,
        "before": event.before,
        "after": event.after,
        **event.peer._asdict(),
        "action": event.action,
    }
    if not event.damaged:
        return document
    return document | dict.fromkeys(event.damaged) | {"damaged": list(event.damaged)}


@contextmanager
def _client(socket: Path | None) -> Generator[Client]:
    """A client whose errors end the command with one sentence and an exit code."""
    from epa_orchestrator.client.client import Client, DaemonError, RefusedByDaemon

    try:
        yield Client(socket or paths.client_socket_path())
    except RefusedByDaemon as error:
        _fail(str(error))
    except DaemonError as error:
        _fail(str(error), EXIT_UNREACHABLE)


def _pool_of(client: Client, service: str) -> str:
    """The pool that a service holds CPUs in; isolated when it holds none."""
    from epa_orchestrator.client.checks import is_same_name

    general = client.general_listing()
    claims = general.allocations if general else []
    return "general" if any(is_same_name(claim.service_name, service) for claim in claims) else "isolated"


def _sysfs(machine: str | None) -> tuple[Sysfs, str]:
    """Where to look for the machine, and its name: this host, or a recording."""
    from epa_orchestrator.hardware.sysfs import SysfsTree, load_recording

    if machine is None:
        return SysfsTree(paths.sysfs_root()), platform.node() or "host"
    shipped = Path(__file__).parents[1] / "machines"
    path = Path(machine)
    try:
        if not path.exists() and (shipped / f"{machine}.json").exists():
            path = shipped / f"{machine}.json"
        return load_recording(path.read_text(encoding="utf-8")), path.stem
    except FileNotFoundError:
        names = ", ".join(sorted(file.stem for file in shipped.glob("*.json")))
        _fail(f"There is no file '{machine}', and no machine of that name ships; these do: {names}")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        _fail(f"The recorded machine '{machine}' cannot be used: {reason}")


def _write_recording(path: Path, name: str, recorder: Recorder) -> None:
    from epa_orchestrator.hardware.sysfs import dump_recording

    text = dump_recording(name, f"Recorded by epa-orchestrator {__version__}.", recorder.files, recorder.entries)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        _fail(f"The recording cannot be written to {path}: {error.strerror}")


def _say(text: str, *, err: bool = False) -> None:
    """Print a line, of which parts may come from elsewhere."""
    typer.echo(printable(text), err=err)


def _print_json(document: Any) -> None:
    typer.echo(json.dumps(document, indent=2))


def _fail(sentence: str, code: int = EXIT_REFUSED) -> NoReturn:
    _say(f"epa-orchestrator: {sentence}", err=True)
    raise typer.Exit(code)
