# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The configure hook: makes snapd's proposed options the daemon's settings, or refuses them with one sentence.

It runs as the snap's configure, install and post-refresh hooks. SIGHUP makes a running daemon read the new settings. A
daemon that does not run reads them when the next client starts it.

Only what changes is judged. A value that was accepted before stays accepted, valid or not: a refresh replays all
options, and the host may have changed since. The daemon judges them again, and says what it cannot use.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Final

from epa_orchestrator import paths
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.settings import (
    MAX_BYTES,
    Settings,
    SettingsError,
    given_options,
    option_names,
    read_options,
)
from epa_orchestrator.allocation.usable_settings import usable_settings
from epa_orchestrator.configure.proposal import HostState, check_proposal
from epa_orchestrator.cpuset import EMPTY
from epa_orchestrator.documents import parse_document
from epa_orchestrator.errors import EpaError
from epa_orchestrator.files import UnsuitableFileError, read_regular_file, sync_directory
from epa_orchestrator.hardware.discovery import MachineError, read_machine
from epa_orchestrator.hardware.hugepages import Hugepages, are_hidden, read_hugepages
from epa_orchestrator.hardware.isolated_cpus import read_isolated
from epa_orchestrator.hardware.sysfs import Sysfs, SysfsTree
from epa_orchestrator.state import database_files, loading, opening
from epa_orchestrator.state.errors import LegacyStateError, StateError
from epa_orchestrator.state.legacy_state import read_legacy_state
from epa_orchestrator.state.lock import Locked, daemon_pid

#: The argument for the hook of a refresh, whose options are all accepted ones: snapd has them, and proposes none.
REPLAY: Final = "--replay"

#: How long (seconds) snapctl may take; snapd ends the whole hook after 300.
_SNAPCTL_TIMEOUT: Final = 240.0


class ConfigureError(EpaError):
    """The options cannot be applied."""


def main() -> int:
    """Apply the proposed options; the exit code says whether snapd keeps them."""
    try:
        file = paths.settings_file()
        if file is None:
            raise ConfigureError("EPA_SETTINGS is not set: set it to the path of the settings file")
        sysfs = SysfsTree(paths.sysfs_root())
        apply_options(proposed_options(), file, paths.state_directory(), sysfs, replay=REPLAY in sys.argv[1:])
    except EpaError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def proposed_options() -> object:
    """The snap's options after the change, by name; only those that are set.

    Raises ConfigureError.
    """
    command = ["snapctl", "get", "-d", *option_names()]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_SNAPCTL_TIMEOUT)
        if done.returncode:
            reason = done.stderr.decode(errors="replace").strip() or f"snapctl ended with {done.returncode}"
            raise ConfigureError(f"The options cannot be read: {reason}")
        return parse_document(done.stdout or b"{}")
    except subprocess.TimeoutExpired:
        raise ConfigureError(f"The options cannot be read: snapctl took over {_SNAPCTL_TIMEOUT:g} seconds") from None
    except (OSError, ValueError) as error:
        raise ConfigureError(f"The options cannot be read: {error}") from None


def apply_options(options: object, file: Path, state_directory: Path, sysfs: Sysfs, *, replay: bool = False) -> None:
    """Check the options against the host and its claims, store them as settings, and notify the daemon.

    With `replay` the host is not asked, and without earlier settings no option is judged.

    Raises EpaError when they are refused; then nothing has changed.
    """
    given = given_options(options)
    content = json.dumps(given, indent=1, sort_keys=True).encode()
    if len(content) > MAX_BYTES:  # the daemon reads no more
        raise ConfigureError(f"The options have {len(content)} bytes, more than {MAX_BYTES}: shorten their lists")
    with _one_hook_at_a_time(file):
        _check_readable(file)
        accepted = _accepted_options(file)
        if accepted is not None or not replay:
            _check_values(given, accepted or {})
        if not replay:
            current, proposed = usable_settings(accepted or {}), usable_settings(given)
            check_proposal(current, proposed, _read_host(state_directory, sysfs, current, proposed))
        _store(content, file, state_directory)


def _accepted_options(file: Path) -> dict[str, Any] | None:
    """The options in the current settings; None when there are none that can be read."""
    try:
        return read_options(file)
    except SettingsError:
        return None


def _check_values(options: Mapping[str, Any], accepted: Mapping[str, Any]) -> None:
    """Check that each option is valid, or as it was accepted before.

    Raises SettingsError.
    """
    known = usable_settings(accepted).unusable
    for option, reason in usable_settings(options).unusable.items():
        # The reason names both options of a contradiction.
        if known.get(option) != reason or not _same(options[option], accepted[option]):
            raise SettingsError(reason)


def _same(one: object, other: object) -> bool:
    """Whether two JSON values are the same. Python's == takes true for 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _store(content: bytes, file: Path, state_directory: Path) -> None:
    """Store the settings, and notify the daemon.

    Raises ConfigureError; then nothing has changed.
    """
    backup = _replace(file, content)
    try:
        _notify_daemon(state_directory)
    except (OSError, Locked) as error:
        _restore(file, backup)
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigureError(f"The running daemon could not be notified of the options: {reason}") from None
    if backup is not None:
        with contextlib.suppress(OSError):
            backup.unlink()


@contextlib.contextmanager
def _one_hook_at_a_time(file: Path) -> Generator[None]:
    """Wait until no other hook runs, such as one that a person started: both would write the same new file."""
    # This locks a separate file, because AppArmor allows no snap to lock a directory.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(file.with_name(f".{file.name}.lock"), flags, 0o600)
    except OSError as error:
        raise ConfigureError(f"The settings {file} cannot be written: {error.strerror}") from None
    try:
        with contextlib.suppress(OSError):  # the file system has no locks
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _notify_daemon(state_directory: Path) -> None:
    """Make a running daemon read its settings again.

    Raises OSError, Locked.
    """
    pid = daemon_pid(state_directory)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(pid, signal.SIGHUP)
    elif opening.is_in_use(state_directory / database_files.FILE_NAME):
        raise Locked(
            f"it cannot be found, because its lock file in {state_directory} was replaced or removed: restart it"
        )


def _read_host(state_directory: Path, sysfs: Sysfs, current: Settings, proposed: Settings) -> HostState:
    """The machine, the hugepages of nodes with reserved ones, and the claims, as far as they can be read."""
    problems: list[str] = []
    machine, ledger, isolated_before = None, None, EMPTY
    try:
        machine = read_machine(sysfs, proposed.isolated_cpus_from)
        if "isolated-cpus-from" not in current.unusable:
            isolated_before = read_isolated(sysfs, current.isolated_cpus_from)
    except (MachineError, ValueError) as error:
        problems.append(str(error))
    try:
        ledger = _read_claims(state_directory / database_files.FILE_NAME)
    except StateError as error:
        problems.append(f"the state database {error}")
    except LegacyStateError as error:
        problems.append(f"the older daemon's state cannot be imported, because {error}")
    nodes = {entry.node_id for entry in proposed.reserved_hugepages}
    return HostState(machine, _read_hugepages(sysfs, nodes), ledger, "; ".join(problems), isolated_before)


def _read_hugepages(sysfs: Sysfs, nodes: set[int]) -> dict[int, tuple[Hugepages, ...] | None]:
    """The hugepages of these NUMA nodes; None where a snap may not read them before its plug is connected."""
    return {node_id: None if are_hidden(sysfs, node_id) else read_hugepages(sysfs, node_id) for node_id in nodes}


def _read_claims(database: Path) -> Ledger:
    """The claims in the database; before the first start, those of the older daemon, which that start imports."""
    if database_files.exists(database):
        return loading.load(database).ledger
    return read_legacy_state(paths.legacy_state()) or Ledger()


def _check_readable(file: Path) -> None:
    try:
        read_regular_file(file, MAX_BYTES, follow_link=True)
    except FileNotFoundError:
        pass
    except UnsuitableFileError as error:
        raise ConfigureError(f"The settings {file} cannot be read: {error}") from None
    except OSError as error:
        raise ConfigureError(f"The settings {file} cannot be read: {error.strerror}") from None


def _replace(file: Path, content: bytes) -> Path | None:
    """Replace the file in one step; returns the path of the earlier file's backup, None if there was no earlier file.

    The backup is a link to the earlier file, so a full disk cannot prevent `_restore`.
    """
    new, old = file.with_name(f".{file.name}.new"), file.with_name(f".{file.name}.old")
    backup: Path | None = None
    replaced = False
    try:
        for leftover in (new, old):  # of a hook that was killed
            leftover.unlink(missing_ok=True)
        with open(new, "xb") as written:
            os.fchmod(written.fileno(), 0o600)
            written.write(content)
            written.flush()
            os.fsync(written.fileno())
        if os.path.lexists(file):
            os.link(file, old, follow_symlinks=False)
            backup = old
        os.replace(new, file)
        replaced = True
        sync_directory(file.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        if replaced:
            _restore(file, backup)
        elif backup is not None:
            with contextlib.suppress(OSError):
                backup.unlink()
        raise ConfigureError(f"The settings {file} cannot be written: {error.strerror}") from None
    return backup


def _restore(file: Path, backup: Path | None) -> None:
    """Undo `_replace`."""
    try:
        if backup is None:
            file.unlink()
        else:
            os.replace(backup, file)
    except OSError as error:
        raise ConfigureError(
            f"The refused settings stay in {file}, because the earlier ones cannot be restored: {error.strerror}"
        ) from None
    with contextlib.suppress(OSError):
        sync_directory(file.parent)
