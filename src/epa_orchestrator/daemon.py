"""Daemon: puts the parts together, from the state on disk to the socket, and runs until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epa_orchestrator import paths, store, systemd
from epa_orchestrator.errors import EpaError
from epa_orchestrator.host import Host
from epa_orchestrator.ledger import Ledger
from epa_orchestrator.legacy_state import LegacyStateError, read_legacy_state
from epa_orchestrator.listening import ListenError, SocketFile
from epa_orchestrator.lock import Locked, sole_daemon
from epa_orchestrator.logs import log_to_stderr, set_level
from epa_orchestrator.orchestrator import Orchestrator, State
from epa_orchestrator.server import Limits, Server
from epa_orchestrator.settings import Settings, SettingsError, load_settings
from epa_orchestrator.store import Origin, StateError
from epa_orchestrator.sysfs import Sysfs

log = logging.getLogger(__name__)

#: How often (seconds) to look whether the socket file is still in its place.
_LOOK_AFTER_SOCKET = 0.5
#: File descriptors that are not connections: the database, its log, the lock, listeners, the event loop's own.
_OTHER_FDS = 64


class DaemonError(EpaError):
    """The daemon cannot start."""


@dataclass(frozen=True)
class Options:
    """Where the daemon finds and puts things. `sysfs_name` is what messages call the machine's source."""

    socket_path: Path
    state_directory: Path
    legacy_state: Path
    settings_file: Path | None
    sysfs: Sysfs
    sysfs_name: str
    recorded: bool = False


def run(options: Options) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises DaemonError.
    """
    # Who finds the lock held may send SIGHUP at once: it waits until there is somebody to read the settings again.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        log_to_stderr(paths.log_level())
    except ValueError as error:
        raise DaemonError(str(error)) from None
    try:
        with sole_daemon(options.state_directory) as problem:
            settings = load_settings(options.settings_file)
            set_level(settings.log_level or paths.log_level())
            state, nodes = open_state(options, problem)
            main = _serve(options, settings, state, Host(options.sysfs, settings, nodes))
            _loop_runner()(main)
    except (SettingsError, Locked) as error:
        raise DaemonError(str(error)) from None


def open_state(options: Options, problem: str | None = None) -> tuple[State, dict[int, Any]]:
    """The state on disk: opened, or made on the first start (with the older daemon's claims in it).

    When it cannot be used nothing in it is changed, and the state says why and what to do.
    """
    path = options.state_directory / store.FILE_NAME
    try:
        if not store.exists(path):
            _first_start(options, path, problem)
        opened, loaded = store.open_store(path)
    except (StateError, LegacyStateError) as error:
        return _read_only_state(path, error), {}
    return State(loaded.ledger, opened, None), loaded.nodes


def _first_start(options: Options, path: Path, problem: str | None) -> None:
    if problem is not None:
        raise StateError(problem)
    try:
        imported = read_legacy_state(options.legacy_state)
    except LegacyStateError as error:
        raise LegacyStateError(
            f"The older daemon's state {options.legacy_state} was not imported, because {error}: mend or remove that"
            " file, then restart this daemon"
        ) from None
    store.create(path, imported or Ledger(), Origin(os.getpid(), os.getuid(), os.getgid(), "import"), time.time())
    if imported is not None:
        log.info("imported %d claims from the older daemon's %s", len(imported.claims), options.legacy_state)


def _read_only_state(path: Path, error: StateError | LegacyStateError) -> State:
    """What can still be told when nothing may be changed."""
    if isinstance(error, LegacyStateError):
        log.error("%s", error)
        return State(None, None, str(error))
    problem = (
        f"The state database {path} {error}: nothing in it was changed; mend it, restore it from a copy or move it"
        " away, then restart this daemon"
    )
    log.error("%s", problem)
    if not store.exists(path):
        return State(Ledger(), None, problem)
    with contextlib.suppress(StateError):
        return State(store.load_copy(path).ledger, None, problem)
    return State(None, None, problem)


async def _serve(options: Options, settings: Settings, state: State, host: Host) -> None:
    orchestrator = Orchestrator(host, settings, state)
    try:
        _tell_what_is_served(options, host)
        server = Server(orchestrator, Limits(connections=_most_connections()))
        socket_file = SocketFile(options.socket_path)
        for listener in _listeners(socket_file):
            server.listen(listener)
        log.info("serving at %s", options.socket_path)
        reload = _Reload(options, orchestrator)
        stopped = _handle_signals(reload)
        tasks = [asyncio.ensure_future(task) for task in _background(server, socket_file)]
        systemd.notify("READY=1")
        await stopped
        systemd.notify("STOPPING=1")
        log.info("stopping")
        for task in tasks:
            task.cancel()
        socket_file.remove()
        await server.stop()
    finally:
        orchestrator.close()


def _listeners(socket_file: SocketFile) -> list[socket.socket]:
    """The sockets that systemd handed over, or else one of our own; with one of our own if no file leads to those."""
    handed_over = systemd.listening_sockets()
    if not handed_over:
        return [_made(socket_file.bind)]
    if not any(socket_file.adopt(listener) for listener in handed_over):
        log.warning("the socket file %s did not lead to the socket that was handed over: put back", socket_file.path)
        handed_over.append(_made(socket_file.put_back))
    return handed_over


def _made(make: Callable[[], socket.socket]) -> socket.socket:
    try:
        return make()
    except ListenError as error:
        raise DaemonError(str(error)) from None


def _background(server: Server, socket_file: SocketFile) -> Iterator[Coroutine[Any, Any, None]]:
    yield _look_after_socket(server, socket_file)
    if (interval := systemd.watchdog_interval()) is not None:
        yield _feed_watchdog(interval)


async def _look_after_socket(server: Server, socket_file: SocketFile) -> None:
    """Put the socket file back when something has removed or replaced it."""
    last: socket.socket | None = None
    complained = False
    while True:
        await asyncio.sleep(_LOOK_AFTER_SOCKET)
        if socket_file.is_in_place():
            continue
        try:
            listener = socket_file.put_back()
        except ListenError as error:
            if not complained:
                log.error("%s; trying again", error)
            complained = True
            continue
        complained = False
        log.warning("the socket file %s had been removed or replaced: it is back", socket_file.path)
        server.listen(listener)
        if last is not None:
            server.retire(last)
        last = listener


async def _feed_watchdog(interval: float) -> None:
    while True:
        systemd.notify("WATCHDOG=1")
        await asyncio.sleep(interval)


class _Reload:
    """Reads the settings again; mistakes in them leave the ones in use as they are."""

    def __init__(self, options: Options, orchestrator: Orchestrator) -> None:
        self._options = options
        self._orchestrator = orchestrator

    def __call__(self) -> None:
        systemd.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            settings = load_settings(self._options.settings_file)
        except SettingsError as error:
            log.error("the settings in use stay as they are: %s", error)
        else:
            set_level(settings.log_level or paths.log_level())
            self._orchestrator.use(settings)
            log.info("settings read again")
        systemd.notify("READY=1")


def _handle_signals(reload: Callable[[], None]) -> asyncio.Future[None]:
    """Reload on SIGHUP; the future is done on SIGTERM or SIGINT."""
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


def _tell_what_is_served(options: Options, host: Host) -> None:
    pools = host.pools()
    if pools.machine is not None and not pools.machine.isolated:
        advice = "" if options.recorded else "; to try it on a made-up machine: epa-orchestrator serve --machine vm-8"
        log.warning(
            "%s isolates no CPUs, so requests for pinning will be refused: set isolcpus= on its kernel command line%s",
            options.sysfs_name,
            advice,
        )
    if pools.general is not None and pools.general.problem is not None:
        log.warning("%s", pools.general.problem)


def _most_connections() -> int:
    """As many as the limit on open files leaves, which is raised as far as allowed; `quotas` shares them out."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = Limits.connections + _OTHER_FDS
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(min(Limits.connections, allowed - _OTHER_FDS), 1)


def _loop_runner() -> Callable[[Coroutine[Any, Any, None]], None]:
    """Use uvloop where it is installed, else asyncio; `EPA_LOOP=asyncio` forces the latter."""
    if os.environ.get("EPA_LOOP") != "asyncio":
        try:
            import uvloop
        except ImportError:
            pass
        else:
            return uvloop.run
    return asyncio.run
