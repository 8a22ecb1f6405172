# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Claim isolated CPUs and hugepages of the host from epa-orchestrator, in a charm or in a snap.

[epa-orchestrator](https://github.com/canonical/epa-orchestrator) is a daemon that grants the isolated CPUs of a host to
the services on it, each CPU to one service only. This library asks it over its Unix socket. It is one file to copy into
`lib/charms/epa_orchestrator/v0` of a charm, needs Python 3.10 or later and nothing else, and also works with the older
daemon of the same name.

In a charm, on the host, where the user is root:

```python
from charms.epa_orchestrator.v0 import epa

try:
    grant = epa.Client().allocate("ceph-osd", 4)
except epa.NoIsolatedCpus:
    ...  # the host isolates no CPUs: run without pinning
except epa.Unavailable as error:
    ...  # no daemon answers (yet): WaitingStatus(str(error)), and try again at the next event
except epa.EpaError as error:
    ...  # BlockedStatus(str(error)): the sentence says what to do
else:
    subprocess.run(["taskset", "-c", str(grant.cpus), "ceph-osd"])
```

In a snap, which needs a plug. `sudo snap connect NAME:epa-info epa-orchestrator:epa-info` connects it:

```yaml
plugs:
  epa-info:
    interface: content
    content: epa-info
    target: $SNAP_DATA
```

```python
client = epa.Client()
client.wait_until_ready(60)
client.allocate("my-service", 2, near="eth0", preemption_policy="non-preemptive")
with client.watch() as events:
    for event in events:
        if event.kind == "claim" and event.service == "my-service":
            ...  # event.after.cpus; `after` is None if the claim is gone
```

**Errors** are sentences for an operator, and belong to one tree: see `EpaError`. A ValueError or TypeError is a mistake
in the call. Where `outcome_unknown` is true, the change may have been made: send the same request again.

**Older daemons** ignore fields that they do not know: one without the feature `dry-run` allocates at a dry run. So the
client asks which features there are before it sends such a field, and raises `MissingFeature`.

**The wire**: one JSON object each way on each connection, as
[the protocol](https://github.com/canonical/epa-orchestrator/blob/main/docs/reference/protocol.md) describes it. Each
result has the whole answer as `answer`, so fields that this library does not name can be read from there. A client may
be shared by threads.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import stat
import struct
import time
import unicodedata
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar, cast

# Charmhub issues this id when a library is registered. charmcraft 4.5 registers no new ones (`charmcraft create-lib`
# ends with an error), so there is none yet: copy this file, because `charmcraft fetch-lib` cannot find it. An empty id
# would stop `charmcraft pack` of charms that contain the file.
LIBID = "not-registered"

# Incompatible changes: raise LIBAPI, in a directory of its own.
LIBAPI = 0

# Every other change of this file: raise LIBPATCH.
LIBPATCH = 1

Pool = Literal["isolated", "general"]

#: Where the daemon's snap serves, as seen from the host.
HOST_SOCKET: Final = "/var/snap/epa-orchestrator/current/data/epa.sock"

_VERSION: Final = "1.0"
#: The largest answer (bytes): a listing of 10,000 services with long names has 5 MB. Python's objects for an answer can
#: take 30 times its size, and a snap that may write the socket's directory can serve anything there.
_MAX_ANSWER: Final = 16 * 1024 * 1024
_MAX_SENTENCE: Final = 4096
_MAX_CPU: Final = 65_535
#: The longest path (bytes) that a Unix socket can have.
_MAX_PATH: Final = 107
#: The pause (seconds) between two attempts to reach a daemon.
_PAUSE: Final = 0.5
#: struct timeval, which SO_SNDTIMEO takes (socket(7)).
_TIMEVAL: Final = struct.Struct("@ll")
#: Reading actions need no service, but the older daemon refuses them without one.
_NOBODY: Final = "epa-library"
_DOUBT: Final = "; it is not known whether the change was made: send the same request again"

#: Fields that a daemon without the feature would silently ignore.
_FEATURES: Final = {
    "preemption_policy": "non-preemptive-allocations",
    "pool": "cpu-pools",
    "numa_policy": "placement-hints",
    "cpu_thread_policy": "placement-hints",
    "uncore_cache_alignment": "placement-hints",
    "near": "placement-hints",
    "dry_run": "dry-run",
    "may_take": "may-take",
}

_T = TypeVar("_T")
_Json = Mapping[str, Any]


class EpaError(Exception):
    """Something has gone wrong; the message is a sentence that says what, and what to do.

    ```
    EpaError
    ├── Unavailable         no daemon answers: try again later
    │   ├── NoSocket        there is no socket: no daemon on this host, or the plug is not connected
    │   └── TimedOut        no whole answer came in time
    ├── NotPermitted        this user may not connect, or may only read
    ├── Refused             the daemon refuses; the message is its sentence
    │   └── NoIsolatedCpus  the host isolates no CPUs: run without pinning
    ├── MissingFeature      the daemon is too old for this request, which was not sent
    └── InvalidAnswer       the answer is nonsense, or belongs to another request
    ```
    """

    #: Whether a change may have been made although no valid answer came.
    outcome_unknown = False


class Unavailable(EpaError):
    """No daemon answers at the socket."""


class NoSocket(Unavailable):
    """There is no socket at the path."""


class TimedOut(Unavailable):
    """No whole answer came within the time-out."""


class NotPermitted(EpaError):
    """This user may not connect to the socket, or may read and not change claims."""


class Refused(EpaError):
    """The daemon refuses the request, and has changed nothing."""


class NoIsolatedCpus(Refused):
    """The host has no isolated CPUs to grant."""


class MissingFeature(EpaError):
    """The daemon lacks the feature `feature` of the protocol."""

    def __init__(self, sentence: str, feature: str = "") -> None:
        super().__init__(sentence)
        self.feature = feature


class InvalidAnswer(EpaError):
    """The server did not send a valid answer."""


@dataclass(frozen=True)
class Cpus:
    """CPU ids in ascending order. `str()` gives the kernel's notation, such as "0-3,8"."""

    ids: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Cpus:
        """The CPUs of a list in the kernel's notation; raises ValueError."""
        ids: set[int] = set()
        named = 0
        for item in text.split(",") if text else ():
            match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", item)
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if not first <= last <= _MAX_CPU:
                raise ValueError(f"{item[:50]!r} is not a CPU or a range of CPUs up to {_MAX_CPU}")
            named += last + 1 - first
            if named > _MAX_CPU + 1:
                raise ValueError(f"the list names more than {_MAX_CPU + 1} CPUs")
            ids.update(range(first, last + 1))
        return cls(tuple(sorted(ids)))

    def __str__(self) -> str:
        ranges: list[list[int]] = []
        for cpu in self.ids:
            if ranges and ranges[-1][1] == cpu - 1:
                ranges[-1][1] = cpu
            else:
                ranges.append([cpu, cpu])
        return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)

    def __iter__(self) -> Iterator[int]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Grant:
    """What a service has after a request. With `numa_node`, `cpus` are those of that node only."""

    service: str
    cpus: Cpus
    pool: str
    #: None after a release, and from a daemon without the feature non-preemptive-allocations.
    preemption_policy: str | None
    #: How many CPUs of the pool are online, and how many of them are free now.
    total_available_cpus: int
    remaining_available_cpus: int
    #: The services that lost CPUs to this request, and which.
    taken: Mapping[str, Cpus]
    #: True if nothing was changed, because the request was a dry run.
    dry_run: bool
    warnings: tuple[str, ...]
    answer: _Json = field(repr=False, compare=False)


@dataclass(frozen=True)
class Claim:
    """The CPUs that one service owns."""

    service: str
    pool: str
    cpus: Cpus
    #: Whether some of them were granted by a request with `numa_node`.
    is_explicit: bool
    preemption_policy: str | None


@dataclass(frozen=True)
class Listing:
    """The claims of a pool, and what the daemon can do."""

    pool: str
    claims: tuple[Claim, ...]
    total_available_cpus: int
    remaining_available_cpus: int
    features: frozenset[str]
    #: Why the daemon refuses all changes, empty if it does not: an operator has to look at it.
    state_error: str
    warnings: tuple[str, ...]
    answer: _Json = field(repr=False, compare=False)

    def claim(self, service: str) -> Claim | None:
        """The claim of a service, None if it has none in this pool."""
        return next((claim for claim in self.claims if _is_same(claim.service, service)), None)


@dataclass(frozen=True)
class NodeHugepages:
    """The hugepages of a NUMA node; sizes are in KiB."""

    #: By size, how many pages the node has, and how many of them are neither used nor recorded.
    total: Mapping[int, int]
    free: Mapping[int, int]
    #: By service, its recorded pages by size.
    records: Mapping[str, Mapping[int, int]]


@dataclass(frozen=True)
class Event:
    """What a watch tells; `answer` has all of it.

    `kind` is "state" for the first event of each connection: `listings` has all claims then. It is "claim" when the
    claim of `service` has changed: `before` is None for a new claim, `after` for one that is gone. It is "hugepages"
    when a record of `service` has changed, and "machine" when CPUs, options, warnings or the state of the daemon have.
    """

    kind: str
    service: str | None
    before: Claim | None
    after: Claim | None
    listings: tuple[Listing, ...]
    answer: _Json = field(repr=False, compare=False)


def default_socket() -> str:
    """The socket of the daemon, as this process sees it: through the plug in a snap, or the host's path."""
    data = os.environ.get("SNAP_DATA")
    return os.path.join(data, "data", "epa.sock") if data else HOST_SOCKET


class Client:
    """Asks the daemon at a socket (None: `default_socket()`). Every method but `is_available` raises EpaError.

    `timeout` (seconds) is for a whole call, from connecting to the end of the answer, however slowly that comes.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, timeout: float = 30.0) -> None:
        if not 0 < timeout <= 1e9:
            raise ValueError(f"timeout must be a number of seconds over 0, not {timeout!r}")
        self.path = os.fsdecode(path) if path is not None else default_socket()
        if not 0 < len(os.fsencode(self.path)) <= _MAX_PATH or "\0" in self.path:
            raise ValueError(f"path must have 1 to {_MAX_PATH} bytes and no null byte: {self.path!r}")
        self.timeout = timeout
        #: The socket file, and the features of the daemon that serves it.
        self._known: tuple[tuple[int, ...], frozenset[str]] | None = None

    def is_available(self) -> bool:
        """Whether a daemon answers. `features` says why not: NoSocket, NotPermitted, TimedOut, …."""
        try:
            self.features()
        except EpaError:
            return False
        return True

    def features(self) -> frozenset[str]:
        """The features of the daemon; the protocol lists them. The oldest daemons have none."""
        return self.listing().features

    def wait_until_ready(self, timeout: float = 60.0) -> Listing:
        """Wait until a daemon answers, at most `timeout` seconds (math.inf: for ever); raises the last error then.

        A daemon that refuses all changes answers too: look at `state_error` of the listing.
        """
        return self._persist(timeout, lambda end: self._listing("isolated", end))

    def listing(self, pool: Pool = "isolated") -> Listing:
        """The claims of a pool. A general pool that is not configured is Refused."""
        return self._listing(pool, self._end())

    def allocate(
        self,
        service: str,
        count: int | None = None,
        *,
        percent: int | None = None,
        default_size: bool = False,
        numa_node: int | None = None,
        pool: Pool = "isolated",
        preemption_policy: Literal["legacy", "non-preemptive"] | None = None,
        near: int | str | None = None,
        numa_policy: Literal["best-effort", "none", "restricted", "single-numa-node"] | None = None,
        cpu_thread_policy: Literal["prefer", "share", "require", "isolate"] | None = None,
        uncore_cache_alignment: Literal["prefer", "none", "require"] | None = None,
        may_take: Mapping[str, Cpus | str] | None = None,
        dry_run: bool = False,
    ) -> Grant:
        """Give the service so many CPUs in all: `count`, or `percent` of the pool, or the daemon's default size.

        A repeated request changes nothing; an older daemon can move the service to other CPUs. With `numa_node`, the
        service has `count` CPUs of this node, and keeps those of others; such a request may take CPUs from other
        services, unless `may_take` or the policy forbids it. What the other arguments mean is in the protocol. None
        leaves a choice to the operator's options.
        """
        if [count is not None, percent is not None, default_size].count(True) != 1:
            raise TypeError("give exactly one of count, percent and default_size")
        # An older daemon takes each number below 1 as a wish for the default size.
        if count is not None and count < 1:
            raise ValueError(f"count must be 1 or more, not {count!r}: release() gives CPUs back")
        if percent is not None and not 1 <= percent <= 100:
            raise ValueError(f"percent must be from 1 to 100, not {percent!r}: release() gives CPUs back")
        if numa_node is not None and count is None:
            raise TypeError("numa_node needs count")
        size: _Json = {"num_of_cores": count or 0} if percent is None else {"percent": percent}
        wishes = {
            "preemption_policy": preemption_policy,
            "near": near,
            "numa_policy": numa_policy,
            "cpu_thread_policy": cpu_thread_policy,
            "uncore_cache_alignment": uncore_cache_alignment,
            "may_take": None if may_take is None else {name: str(cpus) for name, cpus in may_take.items()},
            "dry_run": dry_run or None,
        }
        return self._allocate(service, pool, numa_node, {**size, **wishes})

    def release(self, service: str, pool: Pool = "isolated", numa_node: int | None = None) -> Grant:
        """Release all CPUs of the service, or those in a NUMA node. It is no error if the service has none.

        The oldest daemons release by node only: they raise MissingFeature for the rest, as they would allocate.
        """
        return self._allocate(service, pool, numa_node, {"num_of_cores": -1})

    def hugepages(self) -> Mapping[int, NodeHugepages]:
        """By NUMA node, its hugepages. The daemon may leave out what a node has none of."""
        answer = self._request({"action": "get_memory_info", "service_name": _NOBODY}, self._end())
        with self._checked():
            return {int(name.removeprefix("node")): _hugepages(node) for name, node in answer["numa_hugepages"].items()}

    def record_hugepages(self, service: str, node: int, size_kb: int, count: int) -> None:
        """Record that the service has `count` hugepages of a size (KiB) on a NUMA node, in place of an earlier record.

        The daemon only counts: the kernel hands out the pages themselves.
        """
        if count < 1:
            raise ValueError(f"count must be 1 or more, not {count!r}: remove_hugepages() removes the record")
        self._record(service, node, size_kb, count)

    def remove_hugepages(self, service: str, node: int, size_kb: int) -> None:
        """Remove the record of the service for a NUMA node and a size (KiB); it is no error if there is none."""
        self._record(service, node, size_kb, -1)

    @contextlib.contextmanager
    def watch(self, reconnect_within: float = 60.0) -> Generator[Iterator[Event], None, None]:
        """All changes from now on, in both pools, for a `with` block; the iterator has no end.

        The daemon ends a watch when it restarts, or when the client reads too slowly. The iterator then connects again,
        for at most `reconnect_within` seconds (math.inf: for ever), and goes on with a new state, which has everything
        that was missed.
        """
        events = self._events(_duration(reconnect_within))
        try:
            yield events
        finally:
            events.close()

    def _listing(self, pool: str, end: float) -> Listing:
        answer = self._request({"action": "list_allocations", "service_name": _NOBODY, "pool": _named(pool)}, end)
        with self._checked():
            listing = _listing(answer)
            if listing.pool != pool:
                raise ValueError(f"it is about pool {listing.pool[:50]!r}")
            return listing

    def _allocate(self, service: str, pool: str, numa_node: int | None, more: _Json) -> Grant:
        action = "allocate_cores_percent" if "percent" in more else "allocate_cores"
        action = action if numa_node is None else "allocate_numa_cores"
        place = {"numa_node": numa_node, "pool": _named(pool)}
        request = {"action": action, "service_name": service, **place, **more}
        answer = self._request(request, self._end(), changes=True)
        with self._checked(doubt=True):
            return _grant(request, answer)

    def _record(self, service: str, node: int, size_kb: int, count: int) -> None:
        record = {"service_name": service, "node_id": node, "size_kb": size_kb, "hugepages_requested": count}
        answer = self._request({"action": "allocate_hugepages", **record}, self._end(), changes=True)
        with self._checked(doubt=True):
            found = {name: answer[name] for name in record}
            if not _is_same(_text(found["service_name"]), service) or found | {"service_name": service} != record:
                raise ValueError("it is about another record")
            if answer["allocation_successful"] is not True:
                raise ValueError("it is neither a success nor an error")

    def _events(self, reconnect_within: float) -> Generator[Event, None, None]:
        connection, state = self._begin_watch(self._end())
        while True:
            with contextlib.closing(connection):
                yield state
                while True:
                    with self._checked():
                        line = connection.line(self.timeout)
                        if line is None:
                            break
                        event = _event(_decode(line, of_watch=True))
                    yield event
            time.sleep(_PAUSE)  # a server that ends each watch at once must not make the client busy
            connection, state = self._persist(reconnect_within, self._begin_watch)

    def _begin_watch(self, end: float) -> tuple[_Connection, Event]:
        request = {"action": "watch"}
        with self._checked(), contextlib.ExitStack() as stack:
            connection = stack.enter_context(contextlib.closing(self._open(_needs(request), end)))
            connection.send(_encode(request), end)
            state = _event(_decode(connection.first_line(end), of_watch=True))
            if state.kind != "state":
                raise ValueError(f"the first event is {state.kind[:50]!r}")
            stack.pop_all()
        return connection, state

    def _request(self, fields: _Json, end: float, *, changes: bool = False) -> Any:
        """The answer to a request, by a moment of the monotonic clock. Fields that are None are not sent."""
        fields = {name: value for name, value in fields.items() if value is not None}
        request = _encode(fields)
        with self._checked():
            connection = self._open(_needs(fields), end)
        with self._checked(doubt=changes), contextlib.closing(connection):
            return _decode(connection.exchange(request, end))

    def _open(self, needs: Mapping[str, str], end: float) -> _Connection:
        """A connection to a daemon that has these features; each comes with what the daemon does without it.

        The features belong to a socket file: a daemon that takes over, as after `snap revert`, makes another one. So
        the file is compared after connecting, and a connection to an unknown one asks for the features. (It is not just
        closed: the older daemon does not survive that.)
        """
        while True:
            before = self._identity()
            found, features = self._known or (None, frozenset[str]())  # read once: other threads set it
            is_known = found == before
            for feature in needs if is_known else ():
                if feature not in features:
                    sentence = f"The daemon at {self.path} lacks the feature {feature}, and {needs[feature]}"
                    raise MissingFeature(f"{sentence}: install a newer one", feature)
            with contextlib.ExitStack() as stack:
                connection = stack.enter_context(contextlib.closing(_Connection(self.path, end)))
                is_same = self._is_still(before)
                if not needs or (is_known and is_same):
                    stack.pop_all()
                    return connection
                request = _encode({"action": "list_allocations", "service_name": _NOBODY})
                features = _listing(_decode(connection.exchange(request, end))).features
            self._known = (before, features) if is_same else None

    def _identity(self) -> tuple[int, ...]:
        """What tells a socket file from every other one that has been at the path."""
        found = os.stat(self.path)
        if not stat.S_ISSOCK(found.st_mode):
            raise FileNotFoundError
        return (found.st_dev, found.st_ino, found.st_ctime_ns)

    def _is_still(self, identity: tuple[int, ...]) -> bool:
        """Whether this socket file is still at the path."""
        try:
            return self._identity() == identity
        except OSError:
            return False

    def _end(self) -> float:
        return time.monotonic() + self.timeout

    def _persist(self, seconds: float, attempt: Callable[[float], _T]) -> _T:
        """The result of the first attempt that succeeds; raises the last error when `seconds` are over."""
        last = time.monotonic() + _duration(seconds)
        while True:
            try:
                return attempt(min(self._end(), max(last, time.monotonic() + _PAUSE)))
            except (Unavailable, NotPermitted, Refused):
                if time.monotonic() + _PAUSE >= last:
                    raise
            time.sleep(_PAUSE)

    @contextlib.contextmanager
    def _checked(self, *, doubt: bool = False) -> Generator[None, None, None]:
        """Raise an EpaError for what can go wrong in an exchange; with `doubt`, a change may have been made."""
        try:
            yield
        except OSError as error:
            cause, (kind, sentence) = error, self._failure(error)
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {_one_line(str(error))}"
            sentence = f"The server at {self.path} gave an answer that this library does not understand ({reason})"
            cause, kind = error, InvalidAnswer
        else:
            return
        self._known = None
        raised = kind(sentence + (_DOUBT if doubt else ""))
        raised.outcome_unknown = doubt
        raise raised from cause

    def _failure(self, error: OSError) -> tuple[type[EpaError], str]:
        """The kind and the sentence of an exchange that failed."""
        snap = os.environ.get("SNAP_INSTANCE_NAME")
        plug = f"sudo snap connect {snap}:epa-info epa-orchestrator:epa-info"
        match error:
            case TimeoutError():
                return TimedOut, f"The daemon at {self.path} did not answer in time"
            case FileNotFoundError() | NotADirectoryError():
                remedy = f"run: {plug}" if snap else "start it: sudo snap start epa-orchestrator"
                return NoSocket, f"There is no socket {self.path}: install the snap epa-orchestrator, and {remedy}"
            case PermissionError():
                return NotPermitted, f"This user may not connect to {self.path}: run as root, or use the plug epa-info"
            case ConnectionRefusedError():
                return Unavailable, f"No daemon serves {self.path}: start it: sudo snap start epa-orchestrator"
            case _:
                return Unavailable, f"The daemon at {self.path} cannot be reached: {error.strerror or error}"


class _Connection:
    """A connection to a server, and what has come on it. Its methods raise OSError; `end` is on the monotonic clock."""

    def __init__(self, path: str, end: float) -> None:
        self._received = bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # While the server's queue is full, wait in connect(2), which is served first come, first served: with
            # settimeout() it would fail at once. SO_SNDTIMEO ends the wait with EAGAIN. Python takes a wait that a
            # signal has ended for a connection.
            is_connected = False
            while not is_connected:
                seconds, micros = divmod(int(_left(end) * 1_000_000), 1_000_000)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(seconds, max(micros, 1)))
                self._socket.connect(path)
                is_connected = self._has_peer()
        except BlockingIOError:
            self.close()
            raise TimeoutError from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def _has_peer(self) -> bool:
        try:
            self._socket.getpeername()
        except OSError:
            return False
        return True

    def send(self, request: bytes, end: float) -> None:
        """Send, however little time is left: the older daemon ends when a client closes without a request."""
        self._socket.settimeout(max(end - time.monotonic(), 0.01))
        # A server that refuses early has closed its side before it read the whole request. Its answer may be here.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(request, socket.MSG_NOSIGNAL)

    def exchange(self, request: bytes, end: float) -> bytes:
        """Send a request, and read until the server closes."""
        self.send(request, end)
        while self._receive(end):
            pass
        return self._whole()

    def first_line(self, end: float) -> bytes:
        """The first line; a refusal has no end of a line."""
        while b"\n" not in self._received:
            if not self._receive(end):
                return self._whole()
        return self._take_line()

    def line(self, timeout: float) -> bytes | None:
        """The next line, however late it begins; None if the stream ends, or if a line stalls for `timeout` seconds."""
        end = None
        try:
            while b"\n" not in self._received:
                if self._received:
                    end = end or time.monotonic() + timeout
                if not self._receive(end):
                    return None
        except OSError:
            return None
        return self._take_line()

    def _receive(self, end: float | None) -> bool:
        """Wait for more bytes; returns False at the end of the stream."""
        self._socket.settimeout(None if end is None else _left(end))
        try:
            part = self._socket.recv(262_144)
        except ConnectionResetError:
            part = b""
        self._received += part
        if len(self._received) > _MAX_ANSWER:
            raise ValueError(f"more than {_MAX_ANSWER} bytes")
        return bool(part)

    def _take_line(self) -> bytes:
        length = self._received.index(b"\n")
        line = bytes(self._received[:length])
        del self._received[: length + 1]
        return line

    def _whole(self) -> bytes:
        """All that has come, unless it was cut off."""
        content = bytes(self._received).rstrip()
        if not content or (content.startswith(b"{") and not content.endswith(b"}")):
            raise ConnectionError("it closed the connection before its answer was complete")
        return content


def _left(end: float) -> float:
    """The seconds until then, more than 0; raises TimeoutError when none remain."""
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _duration(seconds: float) -> float:
    if not seconds >= 0:  # not a number, too
        raise ValueError(f"the time must be a number of seconds from 0, not {seconds!r}")
    return seconds


def _needs(fields: _Json) -> dict[str, str]:
    """The features that a request needs, each with what a daemon without it does."""
    needs = {feature: f"would ignore {name}" for name, feature in _FEATURES.items() if name in fields}
    if fields["action"] == "watch":
        needs["watch"] = "tells of no changes"
    if fields["action"] == "allocate_cores" and fields["num_of_cores"] < 0:
        needs["non-preemptive-allocations"] = "would allocate CPUs, as it releases by numa_node only"
    return needs


def _named(pool: str) -> str | None:
    """The pool as a request names it: the default one is not named, because daemons without pools have it too."""
    if pool not in ("isolated", "general"):
        raise ValueError(f"pool must be isolated or general, not {pool!r}")
    return None if pool == "isolated" else pool


def _encode(fields: _Json) -> bytes:
    return json.dumps({"version": _VERSION, **fields}, ensure_ascii=False).encode()


def _decode(content: bytes, *, of_watch: bool = False) -> Any:
    """The JSON object of an answer or an event; raises ValueError, and the EpaError of a refusal."""
    answer: Any = json.loads(content)
    if not isinstance(answer, dict):
        raise ValueError("no JSON object")
    found = cast("dict[str, Any]", answer)
    if found.get("version") != _VERSION and not (of_watch and "event" in found):  # only the first event has it
        raise ValueError(f"version {str(found.get('version'))[:50]!r} instead of {_VERSION!r}")
    if found.get("error") is None:  # the oldest daemon sends null with a result
        return found
    sentence = _one_line(str(found["error"])) or "The daemon refuses the request without a reason"
    if re.match(r"User [0-9]+ may only read", sentence):
        raise NotPermitted(sentence)
    # Older daemons have only one of the halves. Later in a sentence, this can be the name of a service.
    if re.match(r"(No CPUs available: )?No Isolated CPUs|No CPUs available$", sentence):
        raise NoIsolatedCpus(sentence)
    raise Refused(sentence)


def _one_line(text: str) -> str:
    """A text of the server, fit for a log or a status."""
    return " ".join("".join(char if char.isprintable() else " " for char in text[:_MAX_SENTENCE]).split())


def _is_same(one: str, other: str) -> bool:
    """Whether two names mean the same service: the daemon may return a name in another Unicode form."""
    return one == other or unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)


# Answers are read by these; `_checked` makes InvalidAnswer of whatever they raise.


def _as(kind: type[_T], value: Any) -> _T:
    """The value, if JSON has it with exactly this type: true is no number."""
    if type(value) is not kind:
        raise TypeError(f"{type(value).__name__} instead of {kind.__name__}")
    return value


def _text(value: Any) -> str:
    """A text that can be printed: this daemon has no other names, but older ones can have."""
    text = _as(str, value)
    return text if text.isprintable() else "".join(char if char.isprintable() else "\ufffd" for char in text)


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_one_line(_as(str, text)) for text in cast("list[Any]", _as(list, value)))


def _policy(answer: Any) -> str | None:
    return None if answer.get("preemption_policy") is None else _text(answer["preemption_policy"])


def _grant(request: _Json, answer: Any) -> Grant:
    """The grant in an answer, if it belongs to this request."""
    taken = cast("dict[str, str]", _as(dict, answer.get("taken", {})))
    grant = Grant(
        service=_text(answer["service_name"]),
        cpus=Cpus.parse(answer["cores_allocated" if request["action"] == "allocate_numa_cores" else "allocated_cores"]),
        pool=_text(answer.get("pool", "isolated")),
        preemption_policy=_policy(answer),
        total_available_cpus=_as(int, answer["total_available_cpus"]),
        remaining_available_cpus=_as(int, answer["remaining_available_cpus"]),
        taken=dict(zip(map(_text, taken), _limited(taken.values()), strict=True)),
        dry_run=_as(bool, answer.get("dry_run", False)),
        warnings=_texts(answer.get("warnings", [])),
        answer=answer,
    )
    count, policy, node = (request.get(name) for name in ("num_of_cores", "preemption_policy", "numa_node"))
    if not _is_same(grant.service, request["service_name"]):
        raise ValueError(f"it is about service {grant.service[:255]!r}")
    if grant.pool != (request["pool"] or "isolated"):
        raise ValueError(f"it is about pool {grant.pool[:50]!r}")
    if node is not None and answer["numa_node"] != node:
        raise ValueError("it is about another NUMA node")
    if policy is not None and grant.preemption_policy != policy:
        raise ValueError(f"the claim is {grant.preemption_policy!r} instead of {policy!r}")
    if grant.dry_run != bool(request.get("dry_run")):
        raise ValueError("it is about a dry run" if grant.dry_run else "it is not about a dry run")
    if count and len(grant.cpus) != max(count, 0):
        raise ValueError(f"{len(grant.cpus)} CPUs instead of {max(count, 0)}")
    if not count and not grant.cpus:
        raise ValueError("no CPUs")
    return grant


def _limited(lists: Iterable[str]) -> Iterator[Cpus]:
    """The CPUs in each list. All lists of an answer together name each CPU once, which limits their time and memory."""
    named = 0
    for text in lists:
        cpus = Cpus.parse(text)
        named += len(cpus)
        if named > _MAX_CPU + 1:
            raise ValueError(f"the lists name more than {_MAX_CPU + 1} CPUs")
        yield cpus


def _claims(entries: list[Any]) -> tuple[Claim, ...]:
    return tuple(
        Claim(
            service=_text(entry["service_name"]),
            pool=_text(entry.get("pool", "isolated")),
            cpus=cpus,
            is_explicit=_as(bool, entry.get("is_explicit", False)),
            preemption_policy=_policy(entry),
        )
        for entry, cpus in zip(entries, _limited(entry["allocated_cores"] for entry in entries), strict=True)
    )


def _listing(answer: Any) -> Listing:
    return Listing(
        pool=_text(answer.get("pool", "isolated")),
        claims=_claims(cast("list[Any]", _as(list, answer["allocations"]))),
        total_available_cpus=_as(int, answer["total_available_cpus"]),
        remaining_available_cpus=_as(int, answer["remaining_available_cpus"]),
        features=frozenset(_texts(answer.get("supported_cpu_features", []))),
        state_error=_one_line(_as(str, answer.get("state_error", ""))),
        warnings=_texts(answer.get("warnings", [])),
        answer=answer,
    )


def _hugepages(node: Any) -> NodeHugepages:
    return NodeHugepages(
        total={_as(int, size["size"]): _as(int, size["total"]) for size in node["capacity"]},
        free={_as(int, size["size"]): _as(int, size["free"]) for size in node["capacity"]},
        records={
            _text(service): {int(size): _as(int, count) for size, count in sizes.items()}
            for service, sizes in node["allocations"].items()
        },
    )


def _event(line: Any) -> Event:
    kind = _text(line["event"])
    claims = [line[name] if kind == "claim" else None for name in ("before", "after")]
    before, after = (None if claim is None else _claims([claim])[0] for claim in claims)
    pools = [line, *([line["other_pool"]] if "other_pool" in line else [])] if kind == "state" else []
    return Event(
        kind=kind,
        service=None if line.get("service_name") is None else _text(line["service_name"]),
        before=before,
        after=after,
        listings=tuple(map(_listing, pools)),
        answer=line,
    )
