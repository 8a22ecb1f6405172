"""The snap epa-orchestrator as a workload: where it comes from, its options, its connections, its health, its removal.

Knows nothing of Juju. What the operator must mend is raised as `SnapError`, whose message says what and how; what heals
by itself was tried again a few times (see snapd), and is raised as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from charmlibs import snap

import snapd
from epa_orchestrator.client.checks import is_same_name
from epa_orchestrator.client.client import Client, DaemonError
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.protocol.answers import Listing, MemoryAnswer
from snapd import Link, SnapError, patiently

log = logging.getLogger(__name__)

NAME: Final = "epa-orchestrator"
#: The base that the snap runs on; installing from a file needs it on the machine, or the store to fetch it from.
BASE: Final = "core24"
SLOT: Final = "epa-info"
#: The plug through which the daemon sees the host; snapd connects it only when it is told to.
PLUG: Final = "topology"
SOCKET: Final = Path("/var/snap/epa-orchestrator/current/data/epa.sock")

_BLOBS: Final = Path("/var/lib/snapd/snaps")
_MOUNTS: Final = Path("/run/snapd/ns")
_ANSWER_TIMEOUT: Final = 60.0
#: How many services a sentence names.
_NAMED: Final = 20
_STORE_DOWN: Final = re.compile(
    r"unable to contact snap store|persistent network error|no such host|dial tcp|store unavail|net/http|deadline"
)
#: What the command says where the library has a class of error.
_NOT_IN_STORE: Final = re.compile(r"snap .* not found")
_NO_CHANNEL: Final = re.compile(r"not available on|no snap revision|cannot find .* channel|revision not available")


class FileSource(NamedTuple):
    """The snap in a file: the resource that was attached, or the one that the charm carries."""

    path: Path

    def __str__(self) -> str:
        """What a status calls it."""
        return f"the file {self.path.name}"


class StoreSource(NamedTuple):
    """The snap from a channel (track/risk, as snapd writes it) of the store, pinned to a revision if that is not 0."""

    channel: str
    revision: int = 0

    def __str__(self) -> str:
        """What a status calls it."""
        return (f"revision {self.revision} in " if self.revision else "") + f"{self.channel} in the store"


Source = FileSource | StoreSource


@dataclass(frozen=True)
class Holdings:
    """What the daemon says is held: the listing of each pool, and the hugepages."""

    listings: list[Listing]
    memory: MemoryAnswer

    @property
    def services(self) -> list[str]:
        """Who holds CPUs or hugepages."""
        cpus = {claim.service_name for listing in self.listings for claim in listing.allocations}
        pages = {service for node in self.memory.numa_hugepages.values() for service in node.allocations}
        return sorted(cpus | pages)

    @property
    def records(self) -> Iterator[tuple[str, str, int, int]]:
        """The hugepage records: node (as `node0`), service, size (KiB), count."""
        for node, pages in self.memory.numa_hugepages.items():
            for service, counts in pages.allocations.items():
                for size_kb, count in counts.items():
                    yield node, service, int(size_kb), count


def installed() -> snap.InstalledInfo | None:
    """What snapd says of the snap, None when it is not installed."""
    return snapd.installed(NAME)


def is_wanted(source: Source) -> bool:
    """Whether the installed snap is the one that the source has; a newer one in the same channel does not count."""
    info = installed()
    if info is None:
        return False
    if isinstance(source, FileSource):
        return _is_same(source.path, _BLOBS / f"{NAME}_{info.revision}.snap")
    # A snap from a file may still track the channel of the one that it replaced.
    follows = info.revision.isdecimal() and info.tracking == source.channel
    return follows and source.revision in (0, int(info.revision))


def install(source: Source, *, newest: bool = False) -> None:
    """Install the snap from the source, in place of the installed one if need be, and hold it.

    `newest`: from a channel, refresh it although it comes from there already.
    """
    try:
        _install(source, newest=newest)
    except snap.APIError as error:
        with contextlib.suppress(snap.Error):  # what kept it from being installed says more
            hold()
        if snapd.is_busy(error):
            raise
        raise SnapError(_why_not_installed(source, " ".join(error.message.split()), error)) from error
    hold()


def hold() -> None:
    """Keep snapd from refreshing this snap on its own; no other snap is touched."""
    if (info := installed()) is not None and info.hold is None:
        patiently(lambda: snap.hold(NAME))


def options() -> dict[str, Any]:
    """The options that are set in the snap."""
    return patiently(lambda: snap.get(NAME))


def configure(wanted: dict[str, Any]) -> None:
    """Give the daemon these options, in one step; what does not fit is refused as a whole and changes nothing."""
    current = options()
    if changed := {name: value for name, value in wanted.items() if current.get(name) != value}:
        try:
            patiently(lambda: snap.set(NAME, changed))
        except snap.APIError as error:
            if 'no "configure" hook' in error.message:
                raise SnapError(f"the installed snap {NAME} is older than this charm: reset snap-channel") from error
            if not isinstance(error, snap.ChangeError):
                raise
            raise SnapError(_hook_sentence(error.message)) from error


def links() -> list[Link]:
    """The connections of the snap's own plugs and slots."""
    return snapd.links(NAME)


def connect_own() -> None:
    """Connect the plug through which the daemon sees the host."""
    plug = (NAME, PLUG)
    if any(link.plug == plug and link.slot is not None for link in links()):
        return
    _connect(plug, None, f"try 'sudo snap connect {NAME}:{PLUG}'; a snap older than this charm has no such plug")


def wake() -> None:
    """Let systemd start the daemon, if it does not run: its first start imports what an older daemon left.

    That must be done before anyone else can write to the directory that it lies in, and before options are judged by
    what is claimed. A daemon that does not answer is told of by `check_health`.
    """
    with contextlib.suppress(DaemonError):
        client().list_allocations()


def connect(plugs: Iterable[tuple[str, str]]) -> None:
    """Connect those plugs of other snaps that are installed; make links anew that a refresh has left stale.

    Raises SnapError for those that cannot be connected, after it has tried all.
    """
    connected = {link.plug for link in links() if link.slot == f"{NAME}:{SLOT}"}
    problems: list[str] = []
    for plug in plugs:
        try:
            if snapd.installed(plug[0]) is not None:
                _keep_connected(plug, connected=plug in connected)
        except SnapError as error:
            problems.append(str(error))
    if problems:
        raise SnapError("; ".join(problems))


def client() -> Client:
    """A client of the daemon."""
    return Client(SOCKET, timeout=_ANSWER_TIMEOUT)


def check_health(isolated: CpuSet) -> None:
    """Ask the daemon over its socket; `isolated` are the CPUs that the kernel isolates.

    Raises SnapError when it does not answer, cannot read its state, does not see the host, or has a pool that cannot
    be used.
    """
    asked = client()
    try:
        listing = asked.list_allocations()
        general = asked.general_listing()
    except DaemonError as error:
        raise SnapError(
            f"the daemon does not answer ({error}): see 'snap logs {NAME}', then 'sudo snap start --enable {NAME}'"
        ) from error
    if listing.state_error:
        raise SnapError(f"the daemon serves reading requests only: {listing.state_error}")
    reserved = CpuSet.parse(str(options().get("reserved-cpus", "")))
    if unseen := isolated - reserved - CpuSet.parse(listing.cpu_pool.configured_cpus):
        raise SnapError(
            f"the daemon does not see the isolated CPUs {unseen}: 'sudo snap connect {NAME}:{PLUG}', then see"
            f" 'snap logs {NAME}'"
        )
    if general and general.cpu_pool.configured_cpus and not general.cpu_pool.eligible_cpus:
        raise SnapError(
            f"no CPU of cpu-pool can be granted (online CPUs that are not isolated are needed;"
            f" {isolated or 'none'} are isolated): change cpu-pool"
        )


def holdings() -> Holdings:
    """Who holds what.

    Raises SnapError when the daemon cannot tell.
    """
    asked = client()
    try:
        listings = [asked.list_allocations()]
        if general := asked.general_listing():
            listings.append(general)
        return Holdings(listings, asked.memory_info())
    except DaemonError as error:
        raise SnapError(f"the daemon does not answer: {error}") from error


def release(service: str) -> list[str]:
    """Take back all CPUs and hugepage records of a service; returns what was released, one sentence each.

    Raises SnapError.
    """
    held = holdings()
    asked = client()
    done: list[str] = []
    try:
        for listing in held.listings:
            for claim in listing.allocations:
                if is_same_name(claim.service_name, service):
                    asked.allocate(claim.service_name, -1, listing.pool)
                    done.append(f"CPUs {claim.allocated_cores} of pool {listing.pool}")
        for node, name, size_kb, count in held.records:
            if is_same_name(name, service):
                asked.set_hugepages(name, int(node.removeprefix("node")), size_kb, -1)
                done.append(f"{count} hugepages of {size_kb} KiB on {node}")
    except DaemonError as error:
        raise SnapError(f"released {', '.join(done) or 'nothing'}, then failed: {error}") from error
    return done


def remove() -> str | None:
    """Undo connections and holds, and remove the snap if nobody holds anything.

    Returns why the snap was left, None when it is gone.
    """
    if installed() is None:
        return None
    connected = [link for link in links() if link.slot is not None]
    for link in connected:
        if link.slot == f"{NAME}:{SLOT}":
            _disconnect(link)
    reason = _why_to_stay()  # asked only now, so that no other snap claims anything after the answer
    for link in connected:
        if link.plug == (NAME, PLUG):
            _disconnect(link)
    patiently(lambda: snap.unhold(NAME))
    if reason is None:
        patiently(lambda: snap.remove(NAME))
    return reason


def _why_to_stay() -> str | None:
    try:
        held = holdings()
    except SnapError as error:
        return f"it is not known who holds what: {error}"
    problem = held.listings[0].state_error
    if problem:
        return f"it is not known who holds what: {problem}"
    if not held.services:
        return None
    names = held.services[:_NAMED]
    if others := len(held.services) - len(names):
        names.append(f"{others} more")
    return (
        f"{', '.join(names)} still hold CPUs or hugepages; when they are done, 'sudo {NAME} release' for each"
        f" and 'sudo snap remove {NAME}'"
    )


def _disconnect(link: Link) -> None:
    snapd.run("disconnect", "--forget", ":".join(link.plug), str(link.slot))


def _install(source: Source, *, newest: bool) -> None:
    info = installed()
    if isinstance(source, FileSource):
        _install_file(source.path)
    elif info is not None and info.revision.startswith("x"):
        _amend(source)
    else:
        revision = source.revision or None
        patiently(lambda: snap.ensure_installed(NAME, source.channel, revision=revision, update=newest))


def _install_file(path: Path) -> None:
    if not path.is_file() or not path.stat().st_size:
        raise SnapError(
            f"the charm carries no snap ({path.name}): attach the resource {NAME}-snap, or set snap-channel"
        )
    snapd.run("install", "--dangerous", str(path))


def _amend(source: StoreSource) -> None:
    """Replace a snap from a file by the store's."""
    pin = ["--revision", str(source.revision)] if source.revision else []
    snapd.run("refresh", "--amend", "--channel", source.channel, *pin, NAME)


def _why_not_installed(source: Source, reason: str, error: snap.APIError) -> str:
    if isinstance(source, StoreSource):
        if isinstance(error, snap.NotInStoreError) or _NOT_IN_STORE.search(reason):
            return f"the store has no snap {NAME}: reset snap-channel to use the one in the charm"
        unavailable = isinstance(error, snap.ChannelNotAvailableError | snap.RevisionNotAvailableError)
        if unavailable or _NO_CHANNEL.search(reason):
            return f"there is no {source} ({reason[:200]}): set another channel or revision, or reset snap-channel"
    elif snapd.installed(BASE) is None:
        return (
            f"the base snap {BASE} is not installed and could not be fetched: 'sudo snap install {BASE}', or offline"
            f" 'sudo snap ack' and 'sudo snap install' its files ({reason[:200]})"
        )
    if _STORE_DOWN.search(reason):
        return (
            f"the store cannot be reached for {source} ({reason[:200]}): mend the machine's network or the model's"
            " snap-http-proxy, or reset snap-channel"
        )
    return f"the snap cannot be installed from {source}: {reason[:400]}"


def _hook_sentence(message: str) -> str:
    """What the configure hook said, out of snapd's account of the change."""
    found = re.search(r'run hook "configure":\s*(?:-+\s*)?(.*?)\s*(?:-{3,})?\s*\)?\s*$', message, re.DOTALL)
    return " ".join((found[1] if found else message).split())


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.stat().st_size == other.stat().st_size and _digest(path) == _digest(other)
    except FileNotFoundError:
        return False


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _is_stale(consumer: str) -> bool:
    """Whether the consumer's mount namespace has the data of another revision of our snap than the current one."""
    info = installed()
    try:
        lines = (_MOUNTS / f"snap.{consumer}.fstab").read_text(encoding="utf-8").splitlines()
    except OSError:  # nothing of the consumer has run yet
        return False
    ours = [line.split()[0] for line in lines if line.startswith(f"/var/snap/{NAME}/")]
    return info is not None and (not ours or any(f"/{info.revision}/" not in source for source in ours))


def _keep_connected(plug: tuple[str, str], *, connected: bool) -> None:
    if connected and _is_stale(plug[0]):
        log.info("the link of %s leads to another revision of %s: making it anew", ":".join(plug), NAME)
        patiently(lambda: snap.disconnect(plug, (NAME, SLOT)))
        connected = False
    if not connected:
        _connect(plug, (NAME, SLOT), "correct connect-plugs")


def _connect(plug: tuple[str, str], slot: tuple[str, str] | None, remedy: str) -> None:
    try:
        patiently(lambda: snap.connect(plug, slot))
    except snap.APIError as error:
        if snapd.is_busy(error):
            raise
        reason = " ".join(error.message.split())
        raise SnapError(f"{':'.join(plug)} cannot be connected ({reason}): {remedy}") from error
