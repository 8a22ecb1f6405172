# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The stand-in's answers to requests of the REST API and to the command `snap`."""

from __future__ import annotations

import fnmatch
import hashlib
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from tests.fake_snapd.snaps import (
    BASE,
    CONSUMER,
    NAME,
    NO_STORE,
    Json,
    Snap,
    Store,
    full_channel,
    read_snap,
    requested_revision,
)
from tests.fake_snapd.troubles import ChangeFails, FailedRequest, Refusal, Silence, Trouble, refusal

#: A snap and the name of its plug or slot; the system's slots have no snap.
End: TypeAlias = tuple[str, str]

#: How often a change answers that it is under way.
_POLLS: Final = 1

#: The plugs of our snap that the older one does not have, each with its interface.
NEWER_PLUGS = {"topology": "system-files", "isolation": "system-files", "system-observe": "system-observe"}


class Command(NamedTuple):
    """A call of the command snap."""

    arguments: tuple[str, ...]
    environment: dict[str, str]


class Snapd:
    """The state of snapd, the requests and commands that it has received, and the troubles to come."""

    def __init__(self, blobs: Path, mounts: Path, data: str = "/var/snap") -> None:
        self.blobs, self.mounts, self.data = blobs, mounts, data
        self.snaps: dict[str, Snap] = {BASE: Snap(BASE, "1", "20240101", "latest/stable")}
        self.store = Store(versions={BASE: {1: "20240101"}}, channels={BASE: {"latest/stable": 1}})
        self.connections: dict[tuple[End, End], str] = {}
        self.requests: list[str] = []
        self.commands: list[Command] = []
        #: The snap's configure hook: returns its error message, or None when it accepts the options.
        self.configure_hook: Callable[[Json], str | None] = lambda _options: None
        #: Called with a snap that has a new revision, and with its earlier revision.
        self.on_revision: Callable[[Snap, str | None], None] = lambda _snap, _old: None
        self.on_removed: Callable[[str], None] = lambda _name: None
        #: Called with a snap's name and start, stop or restart.
        self.on_service: Callable[[str, str], None] = lambda _name, _action: None
        self.ending = threading.Event()
        self._lock = threading.RLock()
        self._troubles: list[tuple[str, Trouble]] = []
        self._changes: dict[str, tuple[int, str]] = {}
        self._files: dict[str, int] = {}
        #: Whether downloads end too early.
        self.cut_downloads = False
        #: The changes of the past, as snapd shows them: each made a revision of our snap the current one.
        self.history: list[Json] = []
        self._kept: dict[str, Snap] = {}

    def fail_next(self, what: str, trouble: Trouble, times: int = 1) -> None:
        """Make the next matching requests fail; patterns are "POST install", "GET *", "snap refresh", "*"."""
        self._troubles += [(what, trouble)] * times

    def request_count(self, pattern: str) -> int:
        """How many requests match a pattern."""
        return len(fnmatch.filter(self.requests, pattern))

    def commands_of(self, verb: str) -> list[list[str]]:
        """The arguments of each call of this command."""
        return [list(command.arguments) for command in self.commands if command.arguments[0] == verb]

    def add(self, snap: Snap) -> Snap:
        """Install a snap without a request."""
        self.snaps[snap.name] = snap
        return snap

    def add_consumer(self, name: str = CONSUMER, plug: str = "epa-info") -> Snap:
        """Install a snap that uses the daemon."""
        return self.add(Snap(name, "7", "2024.1", "2024.1/stable", plugs={plug: "content"}))

    def slot_of(self, plug: End) -> str | None:
        """The slot that a plug is connected to, as snapd writes it."""
        return next((":".join(slot) for (ours, slot) in self.connections if ours == plug), None)

    def handle(self, method: str, path: str, body: Json) -> Json:
        """Answer one request; `requests` lists it as its method and the action or object."""
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
            case "GET", ["changes"]:
                return self._sync(f"{method} changes", lambda: list(self.history))
            case "GET", ["changes", change]:
                return self._sync(f"{method} change", lambda: self._change(change))
            case "GET", ["apps"]:
                return self._sync(f"{method} apps", lambda: [{"snap": name, "name": "daemon"} for name in self.snaps])
            case "POST", ["apps"]:
                return self._async(
                    f"{method} apps", lambda: [self.on_service(n, body["action"]) for n in body["names"]]
                )
            case _:
                raise refusal("not found", status=404)

    def download(self, body: Json) -> tuple[dict[str, str], bytes]:
        """The headers and the body of the answer to a download."""
        is_peek = body.get("header-peek", False)
        with self._lock:
            self._enter("POST peek" if is_peek else "POST download")
            name = body["snap-name"]
            revision = self.store.find(name, full_channel(body["channel"]), requested_revision(body))
            content = self.store.content(name, revision)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Disposition": f"attachment; filename={name}_{revision}.snap",
            "Snap-Sha3-384": hashlib.sha3_384(content).hexdigest(),
            "Snap-Length": str(len(content)),
        }
        return headers, b"" if is_peek else content[:-1] if self.cut_downloads else content

    def revert(self, name: str, revision: str) -> None:
        """Make an earlier revision the current one, as `snap revert` does: its data are those that it left."""
        snap = self._kept[revision]
        snap.tracking, snap.held = self.snaps[name].tracking, self.snaps[name].held
        self._link(snap, None, revision)

    def _enter(self, what: str) -> None:
        self.requests.append(what)
        for number, (pattern, trouble) in enumerate(self._troubles):
            if fnmatch.fnmatchcase(what, pattern):
                del self._troubles[number]
                raise FailedRequest(trouble)

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
            except FailedRequest as error:
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
            raise refusal("snap not installed", "snap-not-found", 404, name)
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
                raise refusal(f'snap "{name}" is already installed', "snap-already-installed", 400, name)
            self._from_store(name, body)
        elif name not in self.snaps:
            if action == "remove":
                raise refusal(f'snap "{name}" is not installed', "snap-not-installed", 400, name)
            raise refusal(f'snap "{name}" is not installed')
        elif action == "refresh":
            self._refresh(self.snaps[name], body)
        elif action == "remove":
            self._remove(name)
        else:
            self.snaps[name].held = {"hold": True, "unhold": False}[action]

    def _refresh(self, snap: Snap, body: Json) -> None:
        if snap.revision.startswith("x"):
            raise refusal(
                f'local snap "{snap.name}" is unknown to the store, use --amend to proceed anyway', "snap-local"
            )
        wanted = self.store.find(
            snap.name, full_channel(body.get("channel") or snap.tracking), requested_revision(body)
        )
        same_channel = full_channel(body.get("channel") or snap.tracking) == snap.tracking
        if "revision" not in body and same_channel and snap.revision == str(wanted):
            raise refusal(f'snap "{snap.name}" has no updates available', "snap-no-update-available", 400, snap.name)
        self._from_store(snap.name, {"channel": snap.tracking} | body)

    def _from_store(self, name: str, body: Json) -> None:
        channel = full_channel(body.get("channel") or "latest/stable")
        revision = self.store.find(name, channel, requested_revision(body))
        self._ensure_base(name)
        older = name == NAME and revision in self.store.older
        content = self.store.content(name, revision)
        self._use(name, str(revision), self.store.versions[name][revision], content, older=older)
        self.snaps[name].tracking = channel

    def _ensure_base(self, name: str) -> None:
        if BASE not in self.snaps and self.store.down:
            raise FailedRequest(
                ChangeFails(
                    "cannot perform the following tasks:\n"
                    f'- Ensure prerequisites for "{name}" are available (cannot install snap base "{BASE}": {NO_STORE})'
                )
            )
        self.snaps.setdefault(BASE, Snap(BASE, "1", "20240101", "latest/stable"))

    def _use(self, name: str, revision: str, version: str, content: bytes, *, older: bool = False) -> None:
        """Make this new revision the current one; connections, options and the consumers' mounts stay."""
        old = self.snaps.get(name)
        self.blobs.mkdir(parents=True, exist_ok=True)
        (self.blobs / f"{name}_{revision}.snap").write_bytes(content)
        snap = Snap(name, revision, version, older=older)
        if old is not None:
            snap.tracking, snap.held, snap.options = old.tracking, old.held, dict(old.options)
        if name == NAME:
            snap.plugs = {"network-bind": "network-bind", "sys-devices-system-node": "system-files"}
            snap.plugs |= {} if older else NEWER_PLUGS
            snap.slots = {"epa-info": "content"}
            self.connections.setdefault(((name, "network-bind"), ("", "network-bind")), "-")
        # snapd plans the change before a file gets its revision.
        self._link(snap, old.revision if old else None, "unset" if revision.startswith("x") else revision)

    def _link(self, snap: Snap, old: str | None, shown: str) -> None:
        self.snaps[snap.name] = self._kept[snap.revision] = snap
        summary = f'Make snap "{snap.name}" ({shown}) available to the system'
        at = datetime.now(UTC).isoformat()
        task = {"kind": "link-snap", "summary": summary, "status": "Done", "ready-time": at}
        self.history.append({"kind": "refresh-snap", "status": "Done", "tasks": [task]})
        self.on_revision(snap, old)

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
        if snap.older:
            raise FailedRequest(ChangeFails(f'snap "{name}" has no "configure" hook'))
        proposed = {key: value for key, value in {**snap.options, **changes}.items() if value is not None}
        if refusal := self.configure_hook(proposed):
            account = f"\n-----\n{refusal}\n-----" if "\n" in refusal else refusal
            raise FailedRequest(
                ChangeFails(
                    "cannot perform the following tasks:\n"
                    f'- Run configure hook of "{name}" snap (run hook "configure": {account})'
                )
            )
        snap.options = proposed

    def _connect(self, plug: End, slot: End) -> None:
        for name in (plug[0], slot[0]):
            if name and name not in self.snaps:
                raise refusal(f'snap "{name}" is not installed')
        interface = self.snaps[plug[0]].plugs.get(plug[1])
        if interface is None:
            raise refusal(f'snap "{plug[0]}" has no plug named "{plug[1]}"')
        slot = slot if slot[1] else ("", interface)
        if slot[0] and slot[1] not in self.snaps[slot[0]].slots:
            raise refusal(f'snap "{slot[0]}" has no slot named "{slot[1]}"')
        if (plug, slot) in self.connections:
            return  # snapd does not renew the mounts either
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
            raise refusal(f"cannot disconnect {':'.join(plug)} from {':'.join(slot)}, it is not connected")
        del self.connections[plug, slot]
        (self.mounts / f"snap.{plug[0]}.fstab").unlink(missing_ok=True)

    def _command(self, command: Command) -> Json:
        self.commands.append(command)
        verb, *rest = command.arguments
        with self._lock:
            try:
                self._enter(f"snap {verb}")
                return {"out": getattr(self, f"_command_{verb}")(*rest), "err": "", "rc": 0}
            except FailedRequest as error:
                match error.trouble:
                    case Silence():
                        raise
                    case Refusal() | ChangeFails() as trouble:
                        return {"out": "", "err": f"error: {command_message(trouble)}\n", "rc": 1}

    def _command_install(self, option: str, file: str) -> str:
        assert option == "--dangerous"
        described = read_snap(Path(file))
        if described is None:
            raise refusal(f'cannot open snap file: cannot process snap or snapdir "{file}"')
        name = described["name"]
        self._ensure_base(name)
        self._files[name] = self._files.get(name, 0) + 1
        content, older = Path(file).read_bytes(), "hooks" not in described
        self._use(name, f"x{self._files[name]}", described["version"], content, older=older)
        return f"{name} {described['version']} installed\n"

    def _command_refresh(self, *arguments: str) -> str:
        amend, option, channel, *pin, name = arguments
        assert (amend, option) == ("--amend", "--channel")
        if name not in self.snaps:
            raise refusal(f'snap "{name}" is not installed')
        self._from_store(name, {"channel": channel} | ({"revision": pin[1]} if pin else {}))
        return f"{name} ({channel}) refreshed\n"

    def _command_connections(self, name: str) -> str:
        if name not in self.snaps:
            raise refusal(f'snap "{name}" not found')
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
    """The output of `snap connections`."""
    lines = [("Interface", "Plug", "Slot", "Notes"), *sorted(rows)]
    widths = [max(len(line[column]) for line in lines) + 2 for column in range(3)]
    return "".join(f"{a:<{widths[0]}}{b:<{widths[1]}}{c:<{widths[2]}}{d}\n" for a, b, c, d in lines)


def mount_profile(consumer: str, provider: str, revision: str, own: str, data: str = "/var/snap") -> str:
    """The file in which snapd records a consumer's mounts."""
    return (
        "tmpfs / tmpfs x-snapd.origin=rootfs 0 0\n"
        f"{data}/{provider}/{revision}/data {data}/{consumer}/{own}/data none bind 0 0\n"
    )


def command_message(trouble: Refusal | ChangeFails) -> str:
    """The message that the command prints about snapd's answer."""
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
