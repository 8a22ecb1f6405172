"""Configure: the options that snapd proposes become the daemon's settings, or are refused with one sentence.

Runs as the snap's configure, install and post-refresh hooks. An accepted change reaches a running daemon by SIGHUP;
where none runs (its socket starts it when a client comes), it finds the settings when it starts.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Final

from epa_orchestrator import paths
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.settings import (
    MAX_BYTES,
    Settings,
    SettingsError,
    load_settings,
    option_names,
    parse_settings,
)
from epa_orchestrator.configure.proposal import Surroundings, check
from epa_orchestrator.documents import parse_document
from epa_orchestrator.errors import EpaError
from epa_orchestrator.files import UnsuitableFileError, read_regular_file, sync_directory
from epa_orchestrator.hardware.discovery import MachineError, read_machine
from epa_orchestrator.hardware.hugepages import read_hugepages
from epa_orchestrator.hardware.sysfs import Sysfs, SysfsTree
from epa_orchestrator.state import store
from epa_orchestrator.state.legacy_state import LegacyStateError, read_legacy_state
from epa_orchestrator.state.lock import Locked, daemon_pid
from epa_orchestrator.state.store import StateError

#: How long (seconds) snapctl may take; snapd ends the whole hook after 300.
_SNAPCTL_TIMEOUT: Final = 240.0


class ConfigureError(EpaError):
    """The options cannot be put in use."""


def main() -> int:
    """Put the proposed options in use; the exit code tells snapd whether to keep them."""
    try:
        file = paths.settings_file()
        if file is None:
            raise ConfigureError("EPA_SETTINGS does not say where the settings lie")
        put_in_use(proposed_options(), file, paths.state_directory(), SysfsTree(paths.sysfs_root()))
    except EpaError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def proposed_options() -> object:
    """The snap's options as they would be after the change, by name; only those that are set.

    Raises ConfigureError.
    """
    command = ["snapctl", "get", "-d", *option_names()]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_SNAPCTL_TIMEOUT)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip() or f"snapctl ended with {done.returncode}"
            raise ConfigureError(f"The options cannot be read: {said}")
        return parse_document(done.stdout or b"{}")
    except subprocess.TimeoutExpired:
        raise ConfigureError(f"The options cannot be read: snapctl took over {_SNAPCTL_TIMEOUT:g} seconds") from None
    except (OSError, ValueError) as error:
        raise ConfigureError(f"The options cannot be read: {error}") from None


def put_in_use(options: object, file: Path, state_directory: Path, sysfs: Sysfs) -> None:
    """Check the options against the machine and the claims, store them as settings, and tell the daemon.

    Raises EpaError with the sentence that says why not; then nothing has changed.
    """
    proposed = parse_settings(options)
    content = json.dumps(options, indent=1, sort_keys=True).encode()
    if len(content) > MAX_BYTES:  # the daemon would not read that
        raise ConfigureError(f"The options take {len(content)} bytes, and may take {MAX_BYTES}: shorten their lists")
    with _only_hook(file):
        _put_in_use(proposed, content, file, state_directory, sysfs)


def _put_in_use(proposed: Settings, content: bytes, file: Path, state_directory: Path, sysfs: Sysfs) -> None:
    _check_readable(file)
    nodes = {entry.node_id for entry in proposed.reserved_hugepages}
    check(_current(file), proposed, _surroundings(state_directory, sysfs, nodes))
    old = _write(file, content)
    try:
        _tell_daemon(state_directory)
    except (OSError, Locked) as error:
        _put_back(file, old)
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigureError(f"The running daemon could not be told of the options: {reason}") from None
    if old is not None:
        with contextlib.suppress(OSError):
            old.unlink()


@contextlib.contextmanager
def _only_hook(file: Path) -> Generator[None]:
    """Let another hook, such as one that a person runs, end first: both would write the same new file."""
    # A file of its own: AppArmor lets no snap lock a directory.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(file.with_name(f".{file.name}.lock"), flags, 0o600)
    except OSError as error:
        raise ConfigureError(f"The settings {file} cannot be written: {error.strerror}") from None
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _tell_daemon(state_directory: Path) -> None:
    """Let a running daemon read its settings again."""
    pid = daemon_pid(state_directory)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(pid, signal.SIGHUP)
    elif store.is_in_use(state_directory / store.FILE_NAME):
        raise Locked(
            f"It cannot be found, since its lock file in {state_directory} was replaced or removed: restart it"
        )


def _current(file: Path) -> Settings:
    """The settings in use; the defaults where there are none yet, or unusable ones, which only a change can mend."""
    try:
        return load_settings(file)
    except SettingsError:
        return Settings()


def _surroundings(state_directory: Path, sysfs: Sysfs, nodes: set[int]) -> Surroundings:
    """The machine, the hugepages of these nodes, and the claims; what cannot be read is left out."""
    problems: list[str] = []
    machine, ledger = None, None
    try:
        machine = read_machine(sysfs)
    except (MachineError, ValueError) as error:
        problems.append(str(error))
    try:
        ledger = _claims(state_directory / store.FILE_NAME)
    except StateError as error:
        problems.append(f"the state database {error}")
    except LegacyStateError as error:
        problems.append(f"the older daemon's state cannot be imported, because {error}")
    hugepages = {node_id: read_hugepages(sysfs, node_id) for node_id in nodes}
    return Surroundings(machine, hugepages, ledger, "; ".join(problems))


def _claims(database: Path) -> Ledger:
    """The claims in the database, or those of the older daemon that the first start will import."""
    if store.exists(database):
        return store.load(database).ledger
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


def _write(file: Path, content: bytes) -> Path | None:
    """Replace the file's content, whole or not at all; returns where the earlier one is kept, None if there was none.

    It is kept under another name, so that a full disk cannot keep it from being put back.
    """
    new, old = file.with_name(f".{file.name}.new"), file.with_name(f".{file.name}.old")
    kept: Path | None = None
    replaced = False
    try:
        for left in (new, old):  # by a hook that was killed
            left.unlink(missing_ok=True)
        with open(new, "xb") as written:
            os.fchmod(written.fileno(), 0o600)
            written.write(content)
            written.flush()
            os.fsync(written.fileno())
        if os.path.lexists(file):
            os.link(file, old, follow_symlinks=False)
            kept = old
        os.replace(new, file)
        replaced = True
        sync_directory(file.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        if replaced:
            _put_back(file, kept)
        elif kept is not None:
            with contextlib.suppress(OSError):
                kept.unlink()
        raise ConfigureError(f"The settings {file} cannot be written: {error.strerror}") from None
    return kept


def _put_back(file: Path, old: Path | None) -> None:
    """Undo `_write`."""
    try:
        if old is None:
            file.unlink()
        else:
            os.replace(old, file)
    except OSError as error:
        raise ConfigureError(
            f"The refused settings stay in {file}, as they cannot be replaced: {error.strerror}"
        ) from None
    with contextlib.suppress(OSError):
        sync_directory(file.parent)
