"""Stands in for snapd and for the command snap, so that tests can have every answer and every failure of theirs.

The state is in memory; what others see of snapd on the disk (the installed files, the mount profiles) is below the
directory that it is given. It speaks as much of snapd's REST API as the library charmlibs.snap asks for. The program
that stands in for /usr/bin/snap hands its arguments to the same server.
"""

from __future__ import annotations

import contextlib
import enum
import fnmatch
import json
import os
import shutil
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, TypeAlias

import pytest
from charmlibs.snap import _client as snapd_client

import snapd as workload_snapd
from epa_orchestrator.client.client import Client, DaemonError

Json: TypeAlias = dict[str, Any]
#: A snap and the name of its plug or slot; the system's slots have no snap.
End: TypeAlias = tuple[str, str]

NAME: Final = "epa-orchestrator"
BASE: Final = "core24"
CONSUMER: Final = "openstack-hypervisor"

NO_STORE: Final = 'Post "https://store.test/v2/snaps/refresh": dial tcp: lookup store.test: no such host'
#: How often a change answers that it is still being done.
_POLLS: Final = 1


class Refusal(NamedTuple):
    """An error answer; of the command, its message after `error: `."""

    message: str
    kind: str = ""
    status: int = 400
    value: object = ""


class ChangeFails(NamedTuple):
    """The request is accepted, and the change fails later."""

    text: str


class Silence(enum.Enum):
    """No answer at all."""

    HANG = enum.auto()
    DROP = enum.auto()


Trouble: TypeAlias = Refusal | ChangeFails | Silence

BUSY: Final = Refusal(f'snap "{NAME}" has "auto-refresh" change in progress', "snap-change-conflict", 409)


class Command(NamedTuple):
    """A call of the command snap."""

    arguments: tuple[str, ...]
    environment: dict[str, str]


class _Fails(Exception):
    """What a request ends with."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble)
        self.trouble = trouble


def _refuse(message: str, kind: str = "", status: int = 400, value: object = "") -> _Fails:
    return _Fails(Refusal(message, kind, status, value))


@dataclass
class Snap:
    """An installed snap."""

    name: str
    revision: str
    version: str
    tracking: str = ""
    held: bool = False
    options: Json = field(default_factory=dict[str, Any])
    #: Interface by name.
    plugs: dict[str, str] = field(default_factory=dict[str, str])
    slots: dict[str, str] = field(default_factory=dict[str, str])


@dataclass
class Store:
    """What can be had: versions by revision, and revisions by channel, of each snap."""

    down: bool = False
    versions: dict[str, dict[int, str]] = field(default_factory=dict[str, dict[int, str]])
    channels: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])

    def publish(self, name: str, channel: str, revision: int, version: str) -> None:
        """Release a revision to a channel, which keeps its older ones available."""
        self.versions.setdefault(name, {})[revision] = version
        self.channels.setdefault(name, {})[channel] = revision

    def find(self, name: str, channel: str, revision: int | None) -> int:
        """The revision that is asked for, if there is one."""
        if self.down:
            raise _refuse(f"persistent network error: {NO_STORE}", "dns-failure")
        if name not in self.versions:
            raise _refuse("snap not found", "snap-not-found", 404, name)
        if revision is not None and revision not in self.versions[name]:
            raise _refuse("no snap revision available as specified", "snap-revision-not-available", 404, name)
        if channel not in self.channels[name]:
            value = {"snap-name": name, "action": "install", "channel": channel, "architecture": "amd64"}
            raise _refuse("no snap revision on specified channel", "snap-channel-not-available", 404, value)
        return self.channels[name][channel] if revision is None else revision


def write_snap(path: Path, version: str, name: str = NAME) -> Path:
    """Make a file that the stand-in installs as a snap."""
    path.write_text(json.dumps({"name": name, "version": version}), encoding="utf-8")
    return path


class Snapd:
    """The state of snapd, what it is asked, and what it is to do wrong."""

    def __init__(self, blobs: Path, mounts: Path, data: str = "/var/snap") -> None:
        self.blobs, self.mounts, self.data = blobs, mounts, data
        self.snaps: dict[str, Snap] = {BASE: Snap(BASE, "1", "20240101", "latest/stable")}
        self.store = Store(versions={BASE: {1: "20240101"}}, channels={BASE: {"latest/stable": 1}})
        self.connections: dict[tuple[End, End], str] = {}
        self.requests: list[str] = []
        self.commands: list[Command] = []
        #: Whether options are fit, as the snap's configure hook says: None, or why not.
        self.configure_hook: Callable[[Json], str | None] = lambda _options: None
        #: Called with a snap whose revision has become another, and with the one that it had.
        self.on_revision: Callable[[Snap, str | None], None] = lambda _snap, _old: None
        self.on_removed: Callable[[str], None] = lambda _name: None
        #: Called with a snap's name and start, stop or restart.
        self.on_service: Callable[[str, str], None] = lambda _name, _action: None
        self.ending = threading.Event()
        self._lock = threading.RLock()
        self._troubles: list[tuple[str, Trouble]] = []
        self._changes: dict[str, tuple[int, str]] = {}
        self._files: dict[str, int] = {}

    def next(self, what: str, trouble: Trouble, times: int = 1) -> None:
        """Let the next requests that match end like this: "POST install", "GET *", "snap refresh", "*"."""
        self._troubles += [(what, trouble)] * times

    def asked(self, what: str) -> int:
        """How many requests matched."""
        return len(fnmatch.filter(self.requests, what))

    def commands_of(self, verb: str) -> list[list[str]]:
        """The arguments of each call of this command."""
        return [list(command.arguments) for command in self.commands if command.arguments[0] == verb]

    def add(self, snap: Snap) -> Snap:
        """Install a snap behind everybody's back."""
        self.snaps[snap.name] = snap
        return snap

    def add_consumer(self, name: str = CONSUMER, plug: str = "epa-info") -> Snap:
        """Install a snap that wants CPUs."""
        return self.add(Snap(name, "7", "2024.1", "2024.1/stable", plugs={plug: "content"}))

    def slot_of(self, plug: End) -> str | None:
        """What a plug is connected to, as snapd writes it."""
        return next((":".join(slot) for (ours, slot) in self.connections if ours == plug), None)

    def handle(self, method: str, path: str, body: Json) -> Json:
        """Answer one request; what it is called in `requests` is its method and what it wants."""
        parts = path.split("/")[2:]  # ["", "v2", ...]
        match method, parts:
            case "POST", ["command"]:
                return self._command(Command(tuple(body["arguments"]), body["environment"]))
            case "GET", ["snaps", name]:
                return self._sync(f"{method} snap", lambda: self._describe(name))
            case "POST", ["snaps", name]:
                action = body["action"]
                return self._async(f"{method} {action}", lambda: self._act(name, action, body))
            case "GET", ["snaps", name, "conf"]:
                return self._sync(f"{method} conf", lambda: dict(self._options(name)))
            case "PUT", ["snaps", name, "conf"]:
                return self._async(f"{method} conf", lambda: self._configure(name, body))
            case "POST", ["interfaces"]:
                ends = _end(body["plugs"][0], "plug"), _end(body["slots"][0], "slot")
                action = {"connect": self._connect, "disconnect": self._disconnect}[body["action"]]
                return self._async(f"{method} {body['action']}", lambda: action(*ends))
            case "GET", ["changes", change]:
                return self._sync(f"{method} change", lambda: self._change(change))
            case "GET", ["apps"]:
                return self._sync(f"{method} apps", lambda: [{"snap": name, "name": "daemon"} for name in self.snaps])
            case "POST", ["apps"]:
                return self._async(
                    f"{method} apps", lambda: [self.on_service(n, body["action"]) for n in body["names"]]
                )
            case _:
                raise _refuse("not found", status=404)

    def _enter(self, what: str) -> None:
        self.requests.append(what)
        for number, (pattern, trouble) in enumerate(self._troubles):
            if fnmatch.fnmatchcase(what, pattern):
                del self._troubles[number]
                raise _Fails(trouble)

    def _sync(self, what: str, perform: Callable[[], object]) -> Json:
        with self._lock:
            self._enter(what)
            return {"type": "sync", "status-code": 200, "status": "OK", "result": perform()}

    def _async(self, what: str, perform: Callable[[], object]) -> Json:
        text = ""
        with self._lock:
            try:
                self._enter(what)
                perform()
            except _Fails as error:
                if not isinstance(error.trouble, ChangeFails):
                    raise
                text = error.trouble.text
            change = str(len(self._changes) + 1)
            self._changes[change] = _POLLS, text
        return {"type": "async", "status-code": 202, "status": "Accepted", "result": None, "change": change}

    def _change(self, change: str) -> Json:
        polls, text = self._changes[change]
        self._changes[change] = polls - 1, text
        status = "Doing" if polls > 0 else "Error" if text else "Done"
        answer = {"id": change, "kind": "change", "summary": "...", "status": status, "ready": polls <= 0}
        return answer | ({"err": text} if status == "Error" else {})

    def _installed(self, name: str) -> Snap:
        if name not in self.snaps:
            raise _refuse("snap not installed", "snap-not-found", 404, name)
        return self.snaps[name]

    def _describe(self, name: str) -> Json:
        snap = self._installed(name)
        answer = {"name": name, "version": snap.version, "revision": snap.revision, "confinement": "strict"}
        if snap.tracking:
            answer["tracking-channel"] = snap.tracking
        if snap.held:
            answer["hold"] = "2318-03-04T05:06:07.123456789Z"
        return answer

    def _act(self, name: str, action: str, body: Json) -> None:
        if action == "install":
            if name in self.snaps:
                raise _refuse(f'snap "{name}" is already installed', "snap-already-installed", 400, name)
            self._from_store(name, body)
        elif name not in self.snaps:
            if action == "remove":
                raise _refuse(f'snap "{name}" is not installed', "snap-not-installed", 400, name)
            raise _refuse(f'snap "{name}" is not installed')
        elif action == "refresh":
            self._refresh(self.snaps[name], body)
        elif action == "remove":
            self._remove(name)
        else:
            self.snaps[name].held = {"hold": True, "unhold": False}[action]

    def _refresh(self, snap: Snap, body: Json) -> None:
        if snap.revision.startswith("x"):
            raise _refuse(
                f'local snap "{snap.name}" is unknown to the store, use --amend to proceed anyway', "snap-local"
            )
        wanted = self.store.find(snap.name, _full(body.get("channel") or snap.tracking), _revision(body))
        same_channel = _full(body.get("channel") or snap.tracking) == snap.tracking
        if "revision" not in body and same_channel and snap.revision == str(wanted):
            raise _refuse(f'snap "{snap.name}" has no updates available', "snap-no-update-available", 400, snap.name)
        self._from_store(snap.name, {"channel": snap.tracking} | body)

    def _from_store(self, name: str, body: Json) -> None:
        channel = _full(body.get("channel") or "latest/stable")
        revision = self.store.find(name, channel, _revision(body))
        self._ensure_base(name)
        self._use(name, str(revision), self.store.versions[name][revision], b"")
        self.snaps[name].tracking = channel

    def _ensure_base(self, name: str) -> None:
        if BASE not in self.snaps and self.store.down:
            raise _Fails(
                ChangeFails(
                    "cannot perform the following tasks:\n"
                    f'- Ensure prerequisites for "{name}" are available (cannot install snap base "{BASE}": {NO_STORE})'
                )
            )
        self.snaps.setdefault(BASE, Snap(BASE, "1", "20240101", "latest/stable"))

    def _use(self, name: str, revision: str, version: str, content: bytes) -> None:
        """Make this revision the current one; connections and options stay, and so do consumers' mounts."""
        old = self.snaps.get(name)
        self.blobs.mkdir(parents=True, exist_ok=True)
        (self.blobs / f"{name}_{revision}.snap").write_bytes(content)
        snap = Snap(name, revision, version)
        if old is not None:
            snap.tracking, snap.held, snap.options = old.tracking, old.held, old.options
        if name == NAME:
            snap.plugs = {"network-bind": "network-bind", "topology": "system-files"}
            snap.slots = {"epa-info": "content"}
            self.connections.setdefault(((name, "network-bind"), ("", "network-bind")), "-")
        self.snaps[name] = snap
        self.on_revision(snap, old.revision if old else None)

    def _remove(self, name: str) -> None:
        del self.snaps[name]
        self.connections = {
            ends: note for ends, note in self.connections.items() if name not in (ends[0][0], ends[1][0])
        }
        for file in self.blobs.glob(f"{name}_*.snap"):
            file.unlink()
        self.on_removed(name)

    def _options(self, name: str) -> Json:
        return self.snaps[name].options if name in self.snaps else {}

    def _configure(self, name: str, changes: Json) -> None:
        snap = self._installed(name)
        proposed = {key: value for key, value in {**snap.options, **changes}.items() if value is not None}
        if refusal := self.configure_hook(proposed):
            account = f"\n-----\n{refusal}\n-----" if "\n" in refusal else refusal
            raise _Fails(
                ChangeFails(
                    "cannot perform the following tasks:\n"
                    f'- Run configure hook of "{name}" snap (run hook "configure": {account})'
                )
            )
        snap.options = proposed

    def _connect(self, plug: End, slot: End) -> None:
        for name in (plug[0], slot[0]):
            if name and name not in self.snaps:
                raise _refuse(f'snap "{name}" is not installed')
        interface = self.snaps[plug[0]].plugs.get(plug[1])
        if interface is None:
            raise _refuse(f'snap "{plug[0]}" has no plug named "{plug[1]}"')
        slot = slot if slot[1] else ("", interface)
        if slot[0] and slot[1] not in self.snaps[slot[0]].slots:
            raise _refuse(f'snap "{slot[0]}" has no slot named "{slot[1]}"')
        if (plug, slot) in self.connections:
            return  # nor does snapd make the mounts anew
        self.connections[plug, slot] = "manual"
        if slot[0]:
            self._mount(plug[0], slot[0])

    def _mount(self, consumer: str, provider: str) -> None:
        profile = mount_profile(
            consumer, provider, self.snaps[provider].revision, self.snaps[consumer].revision, self.data
        )
        self.mounts.mkdir(parents=True, exist_ok=True)
        (self.mounts / f"snap.{consumer}.fstab").write_text(profile, encoding="utf-8")

    def _disconnect(self, plug: End, slot: End) -> None:
        if (plug, slot) not in self.connections:
            raise _refuse(f"cannot disconnect {':'.join(plug)} from {':'.join(slot)}, it is not connected")
        del self.connections[plug, slot]
        (self.mounts / f"snap.{plug[0]}.fstab").unlink(missing_ok=True)

    def _command(self, command: Command) -> Json:
        self.commands.append(command)
        verb, *rest = command.arguments
        with self._lock:
            try:
                self._enter(f"snap {verb}")
                return {"out": getattr(self, f"_command_{verb}")(*rest), "err": "", "rc": 0}
            except _Fails as error:
                match error.trouble:
                    case Silence():
                        raise
                    case Refusal() | ChangeFails() as trouble:
                        return {"out": "", "err": f"error: {_told(trouble)}\n", "rc": 1}

    def _command_install(self, option: str, file: str) -> str:
        assert option == "--dangerous"
        content = Path(file).read_bytes()
        try:
            described = json.loads(content)
        except ValueError:
            raise _refuse(f'cannot open snap file: cannot process snap or snapdir "{file}"') from None
        name = described["name"]
        self._ensure_base(name)
        self._files[name] = self._files.get(name, 0) + 1
        self._use(name, f"x{self._files[name]}", described["version"], content)
        return f"{name} {described['version']} installed\n"

    def _command_refresh(self, *arguments: str) -> str:
        amend, option, channel, *pin, name = arguments
        assert (amend, option) == ("--amend", "--channel")
        if name not in self.snaps:
            raise _refuse(f'snap "{name}" is not installed')
        self._from_store(name, {"channel": channel} | ({"revision": pin[1]} if pin else {}))
        return f"{name} ({channel}) refreshed\n"

    def _command_connections(self, name: str) -> str:
        if name not in self.snaps:
            raise _refuse(f'snap "{name}" not found')
        return table(self._rows(self.snaps[name]))

    def _rows(self, snap: Snap) -> Iterator[tuple[str, str, str, str]]:
        for (plug, slot), note in self.connections.items():
            if snap.name in (plug[0], slot[0]):
                interface = self.snaps[plug[0]].plugs[plug[1]]
                content = f"[{slot[1]}]" if interface == "content" else ""
                yield interface + content, ":".join(plug), ":".join(slot), note
        plugged = {plug for plug, _ in self.connections}
        slotted = {slot for _, slot in self.connections}
        for name, interface in snap.plugs.items():
            if (snap.name, name) not in plugged:
                yield interface, f"{snap.name}:{name}", "-", "-"
        for name, interface in snap.slots.items():
            if (snap.name, name) not in slotted:
                yield interface, "-", f"{snap.name}:{name}", "-"

    def _command_disconnect(self, option: str, plug: str, slot: str) -> str:
        assert option == "--forget"
        plug_end, slot_end = plug.partition(":"), slot.partition(":")
        self._disconnect((plug_end[0], plug_end[2]), (slot_end[0], slot_end[2]))
        return ""


def table(rows: Iterator[tuple[str, str, str, str]]) -> str:
    """What `snap connections` prints."""
    lines = [("Interface", "Plug", "Slot", "Notes"), *sorted(rows)]
    widths = [max(len(line[column]) for line in lines) + 2 for column in range(3)]
    return "".join(f"{a:<{widths[0]}}{b:<{widths[1]}}{c:<{widths[2]}}{d}\n" for a, b, c, d in lines)


def mount_profile(consumer: str, provider: str, revision: str, own: str, data: str = "/var/snap") -> str:
    """What snapd writes of a consumer's mounts."""
    return (
        "tmpfs / tmpfs x-snapd.origin=rootfs 0 0\n"
        f"{data}/{provider}/{revision}/data {data}/{consumer}/{own}/data none bind 0 0\n"
    )


def _told(trouble: Refusal | ChangeFails) -> str:
    """What the command makes of snapd's answer."""
    if isinstance(trouble, ChangeFails):
        return trouble.text
    match trouble.kind:
        case "snap-not-found":
            return f'snap "{trouble.value}" not found'
        case "snap-channel-not-available":
            return f'snap "{NAME}" is not available on the requested channel but is available to install on others'
        case "dns-failure":
            return f"unable to contact snap store: {trouble.message}"
        case _:
            return trouble.message


def _end(given: Json, what: str) -> End:
    return given["snap"], given[what]


def _revision(body: Json) -> int | None:
    return int(body["revision"]) if "revision" in body else None


def _full(channel: str) -> str:
    """The channel with track and risk."""
    words = channel.split("/")
    if words[0] in ("stable", "candidate", "beta", "edge"):
        return "/".join(["latest", *words])
    return channel if len(words) > 1 else f"{channel}/stable"


class _Handler(BaseHTTPRequestHandler):
    """HTTP in, the state's answer out."""

    def _serve(self) -> None:
        snapd = self._snapd()
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        try:
            answer = snapd.handle(self.command, urllib.parse.urlsplit(self.path).path, body)
        except _Fails as error:
            match error.trouble:
                case Silence.HANG:
                    snapd.ending.wait(30)
                    return
                case Silence.DROP:
                    return
                case ChangeFails(text) | Refusal(text) as trouble:
                    answer = _error(trouble if isinstance(trouble, Refusal) else Refusal(text))
        encoded = json.dumps(answer).encode()
        self.send_response(answer.get("status-code", 200))
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    do_GET = do_POST = do_PUT = _serve  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing; `requests` has it."""

    def _snapd(self) -> Snapd:
        assert isinstance(self.server, _Server)
        return self.server.snapd


def _error(refusal: Refusal) -> Json:
    result = {"message": refusal.message, "value": refusal.value} | ({"kind": refusal.kind} if refusal.kind else {})
    return {"type": "error", "status-code": refusal.status, "status": "Error", "result": result}


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: str, snapd: Snapd) -> None:
        super().__init__(address, _Handler)
        self.snapd = snapd

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has given up is no error of ours."""
        if not isinstance(sys.exc_info()[1], BrokenPipeError | ConnectionResetError):
            super().handle_error(request, client_address)  # pyright: ignore[reportArgumentType]


@contextlib.contextmanager
def serving(snapd: Snapd, socket: Path) -> Generator[Snapd]:
    """Serve the state at a socket, whose path may have 107 characters."""
    with _Server(str(socket), snapd) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield snapd
        finally:
            snapd.ending.set()
            server.shutdown()
            thread.join()
    socket.unlink(missing_ok=True)


_PROGRAM: Final = """\
#!{python} -IS
import json, os, socket, sys
body = json.dumps({{"arguments": sys.argv[1:], "environment": dict(os.environ)}}).encode()
head = b"POST /v2/command HTTP/1.0\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body)
connection = socket.socket(socket.AF_UNIX)
try:
    connection.connect({socket!r})
except OSError as error:
    reason = error.strerror.lower()
    post = 'cannot communicate with server: Post "http://localhost/v2/snaps"'
    sys.exit(f"error: {{post}}: dial unix {socket}: connect: {{reason}}")
connection.sendall(head + body)
answer = b"".join(iter(lambda: connection.recv(65536), b""))
if not answer:
    sys.exit("error: cannot communicate with server: EOF")
done = json.loads(answer.partition(b"\\r\\n\\r\\n")[2])
sys.stdout.write(done["out"])
sys.stderr.write(done["err"])
sys.exit(done["rc"])
"""


def write_program(path: Path, socket: Path) -> Path:
    """Write the program that stands in for /usr/bin/snap."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_PROGRAM.format(python=sys.executable, socket=str(socket)), encoding="utf-8")
    path.chmod(0o755)
    return path


class Service:
    """The daemon that an installed snap runs, from the source tree; `arguments` are those of `serve`."""

    def __init__(self, data: Path, common: Path, *arguments: str, **environment: str) -> None:
        self.socket = data / "data" / "epa.sock"
        self.log = common / "log"
        self._arguments = arguments
        inherited = {name: text for name, text in os.environ.items() if not name.startswith(("EPA_", "SNAP"))}
        self._environment = inherited | {
            "PYTHONPATH": str(Path(__file__).parents[1] / "src"),
            "SNAP_DATA": str(data),
            "SNAP_COMMON": str(common),
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None
        data.mkdir(parents=True, exist_ok=True)
        common.mkdir(parents=True, exist_ok=True)

    @property
    def client(self) -> Client:
        return Client(self.socket)

    def start(self) -> Self:
        """Start it, and wait until it answers."""
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "epa_orchestrator", "serve", *self._arguments]
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not self._answers():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """End it in good order, if it runs."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, so that its socket file stays."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    def _answers(self) -> bool:
        try:
            self.client.list_allocations()
        except DaemonError:
            return False
        return True


@contextlib.contextmanager
def short_directory() -> Generator[Path]:
    """A directory for sockets: the names of pytest's own are too long for their addresses."""
    directory = Path(tempfile.mkdtemp(prefix="epa-", dir="/tmp"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@contextlib.contextmanager
def in_place(monkeypatch: pytest.MonkeyPatch) -> Generator[Snapd]:
    """A snapd that the workload modules find instead of the host's; nobody waits long for anything."""
    with short_directory() as base:
        socket = base / "snapd.socket"
        monkeypatch.setattr(workload_snapd, "_COMMAND", str(write_program(base / "snap", socket)))
        monkeypatch.setattr(workload_snapd, "_PAUSE", 0.01)
        monkeypatch.setattr(snapd_client, "_SOCKET_PATH", str(socket))
        monkeypatch.setattr(snapd_client, "_POLL_INTERVAL", 0.01)
        monkeypatch.setattr(snapd_client, "_CONNECTION_RETRY_BUDGET", 0)
        with serving(Snapd(base / "snaps", base / "ns"), socket) as snapd:
            yield snapd
