# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Main: puts the daemon together, from the state on disk to the socket, and runs it until a signal stops it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epa_orchestrator import paths
from epa_orchestrator.allocation.host import Host
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.daemon import systemd, takeover
from epa_orchestrator.daemon.background import keep_running
from epa_orchestrator.daemon.current import State
from epa_orchestrator.daemon.elsewhere import find_elsewhere
from epa_orchestrator.daemon.logs import log_to_stderr, set_level
from epa_orchestrator.daemon.metrics_port import MetricsPort
from epa_orchestrator.daemon.orchestrator import Orchestrator
from epa_orchestrator.daemon.server import Server
from epa_orchestrator.daemon.settings_file import Reload, read_settings
from epa_orchestrator.daemon.shared import ConnectionLimits
from epa_orchestrator.daemon.socket_file import ListenError, SocketFile
from epa_orchestrator.daemon.socket_keeper import SocketKeeper
from epa_orchestrator.errors import EpaError
from epa_orchestrator.hardware.isolated_cpus import how_to_isolate
from epa_orchestrator.hardware.settled import UnsettledError
from epa_orchestrator.hardware.sysfs import Sysfs, SysfsError
from epa_orchestrator.state import database_files, loading, opening, recorded
from epa_orchestrator.state.errors import InUse, LegacyStateError, StateError
from epa_orchestrator.state.lock import Locked, sole_daemon
from epa_orchestrator.units import count_of

if TYPE_CHECKING:
    from epa_orchestrator.isolation.host_files import HostFiles

log = logging.getLogger(__name__)

#: How long (seconds) a placement in another thread may hold the interpreter lock while the event loop waits for it. A
#: request gives the lock away with each system call, and the check of the host makes three for each file: with Python's
#: default of 5 ms it would take up to 150 ms on a host of eight nodes, with this value up to 5 ms.
_SWITCH_INTERVAL = 0.0001
#: Python's default is 700. A few requests allocate that many objects.
_ALLOCATIONS_PER_COLLECTION = 10_000
#: File descriptors that are not connections: up to 16 of peers whose names are remembered, 120 of the metrics and their
#: scrapers, and about 30 of the database (for changes and for the history), the lock, listeners, threads, files of the
#: host, and the event loop.
_OTHER_FDS = 192
#: With fewer file descriptors a start can fail anywhere, even in libraries.
_MIN_FDS = 24


class StartError(EpaError):
    """The daemon cannot start."""


@dataclass(frozen=True)
class Locations:
    """The files and directories of a daemon.

    `sysfs_name` is the name of the machine in messages, and `host_root` the root directory of the host that `sysfs`
    belongs to, None if it is not known. `open_host` gives the files of the host that is audited, if there are any. With
    `fresh` the state of a recorded machine is removed first.
    """

    socket_path: Path
    state_directory: Path
    legacy_state: Path
    settings_file: Path | None
    sysfs: Sysfs
    sysfs_name: str
    open_host: Callable[[], HostFiles | None] | None = None
    host_root: Path | None = None
    recorded: bool = False
    fresh: bool = False


def run(locations: Locations) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises StartError.
    """
    # The configure hook may send SIGHUP as soon as the lock is held: the signal waits until there is a handler.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        log_to_stderr(paths.log_level())
    except ValueError as error:
        raise StartError(str(error)) from None
    if (files := _allow_files()) < _MIN_FDS:
        raise StartError(
            f"Only {count_of(files, 'file')} may be open at once, and the daemon needs {_MIN_FDS}: see ulimit -n"
        )
    sys.setswitchinterval(_SWITCH_INTERVAL)
    try:
        with sole_daemon(locations.state_directory) as problem:
            settings = read_settings(locations.settings_file)
            set_level(settings.log_level or paths.log_level())
            _prepare_state(locations, problem)
            state = open_state(locations, problem)
            elsewhere = partial(find_elsewhere, locations.sysfs, locations.host_root)
            asyncio.run(_serve(locations, settings, state, Host(locations.sysfs, settings, state.seen, elsewhere)))
    except (Locked, SysfsError) as error:
        raise StartError(str(error)) from None
    except MemoryError as error:
        raise StartError("The daemon cannot run: out of memory") from error
    except OSError as error:
        raise StartError(f"The daemon cannot run: {error.strerror or error}") from error


def _prepare_state(locations: Locations, no_lock: str | None) -> None:
    """Remove the state of a recorded machine if asked to, and mark whether the state is that of a recorded machine."""
    directory = locations.state_directory
    if locations.fresh:
        try:
            recorded.remove_state(directory, no_lock)
        except StateError as error:
            raise StartError(f"The state database {directory / database_files.FILE_NAME} {error}") from None
    if no_lock is None:
        recorded.keep_mark(directory, recorded=locations.recorded)


def open_state(locations: Locations, no_lock: str | None = None) -> State:
    """Open the state on disk.

    The first start makes it, and imports the older daemon's claims (see takeover). When the state cannot be used, or
    its directory is not locked (`no_lock` is the reason), nothing in it is changed, and `State.problem` says why and
    what to do.

    Raises Locked.
    """
    path = locations.state_directory / database_files.FILE_NAME
    warnings: tuple[str, ...] = ()
    if no_lock is not None:
        return _read_only_state(path, StateError(no_lock))
    try:
        first = not database_files.exists(path)
        if first:
            warnings = takeover.first_start(path, locations.legacy_state)
        opened, loaded = opening.open_store(path)
    except InUse:
        raise Locked.by_daemon(locations.state_directory) from None
    except (StateError, LegacyStateError) as error:
        return _read_only_state(path, error)
    if not first:
        taken_over = path.stat().st_mtime if loaded.created is None else loaded.created
        warnings = takeover.later_state(locations.legacy_state, taken_over, loaded.ledger.claims)
    return State(loaded.ledger, opened, None, loaded.seen, warnings, path)


def _read_only_state(path: Path, error: StateError | LegacyStateError) -> State:
    """The state for readings only, as far as it can be read."""
    if isinstance(error, LegacyStateError):
        log.error("%s", error)
        return State(None, None, str(error), database=path)
    problem = (
        f"The state database {path} {error}: nothing in it was changed; repair it, restore it from a copy or move it"
        " away, then restart this daemon"
    )
    log.error("%s", problem)
    if not database_files.exists(path):
        return State(Ledger(), None, problem, database=path)
    # Another daemon may be writing. Only SQLite then reads a consistent state; a copy is for files that it cannot open.
    for load in (loading.load, loading.load_copy):
        with contextlib.suppress(StateError):
            loaded = load(path)
            return State(loaded.ledger, None, problem, loaded.seen, database=path)
    return State(None, None, problem, database=path)


async def _serve(locations: Locations, settings: Settings, state: State, host: Host) -> None:
    _warn_about_isolation(locations, host)
    orchestrator = Orchestrator(host, settings, state, locations.open_host)
    try:
        server = Server(orchestrator, ConnectionLimits(connections=_max_connections()))
        metrics = MetricsPort(lambda: orchestrator.view(server.open_connections), partial(orchestrator.warn, "metrics"))
        stopped = _handle_signals(Reload(locations.settings_file, orchestrator, metrics))
        keeper = SocketKeeper(server, SocketFile(locations.socket_path))
        _tune_garbage_collector()
        metrics.use(orchestrator.settings.metrics_port)  # before the first request, which counts too
        await _start_serving(keeper)
        log.info("serving at %s", locations.socket_path)
        log.info("the claims on %s are kept in %s", locations.sysfs_name, locations.state_directory)
        tasks = [asyncio.ensure_future(job) for job in _background(keeper)]
        systemd.notify("READY=1")
        await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        systemd.notify("STOPPING=1")
        log.info("stopping")
        ended = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        metrics.close()
        await keeper.remove()
        await server.stop()
        if ended:
            raise StartError(f"A background job of the daemon ended: {ended[0].exception()!r}")
    finally:
        orchestrator.close()


def _tune_garbage_collector() -> None:
    """Let the garbage collector skip all objects that the start has made, and run less often.

    Requests leave hardly any cycles, and a full collection holds the loop: 42 ms with 2,000 claims on 4,096 CPUs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS_PER_COLLECTION)


async def _start_serving(keeper: SocketKeeper) -> None:
    try:
        await keeper.start(systemd.listening_sockets())
    except ListenError as error:
        raise StartError(str(error)) from None


def _background(keeper: SocketKeeper) -> Iterator[Coroutine[Any, Any, None]]:
    """The jobs that run as long as the daemon."""
    yield keep_running("checking the socket file", keeper.watch)
    if (interval := systemd.watchdog_interval()) is not None:
        yield keep_running("feeding the watchdog", lambda: _feed_watchdog(interval))


async def _feed_watchdog(interval: float) -> None:
    while True:
        systemd.notify("WATCHDOG=1")
        await asyncio.sleep(interval)


def _handle_signals(reload: Callable[[], None]) -> asyncio.Future[None]:
    """Call `reload` on SIGHUP. The returned future is done on SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[None] = loop.create_future()

    def stop() -> None:
        if not stopped.done():
            stopped.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    return stopped


def _warn_about_isolation(locations: Locations, host: Host) -> None:
    try:
        pools = host.pools()
    except UnsettledError as error:
        log.warning("%s", error)  # each request tries again
        return
    source = pools.settings.isolated_cpus_from
    if "isolated-cpus-from" in pools.settings.unusable or find_elsewhere(locations.sysfs, locations.host_root, source):
        return  # the host's own warnings say more
    if pools.machine is not None and not pools.machine.isolated:
        advice = "" if locations.recorded else "; to try it on a made-up machine: epa-orchestrator serve --machine vm-8"
        log.warning(
            "%s isolates no CPUs, so requests for pinning will be refused: %s%s",
            locations.sysfs_name,
            how_to_isolate(source, "its kernel command line"),
            advice,
        )


def _max_connections() -> int:
    """The number of connections that the limit on open files allows."""
    return max(min(ConnectionLimits.connections, _allow_files() - _OTHER_FDS), 1)


def _allow_files() -> int:
    """Raise the limit on open files to the number that we need, if allowed. Returns the lower of both."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = ConnectionLimits.connections + _OTHER_FDS
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed
