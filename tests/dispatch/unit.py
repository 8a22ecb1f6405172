# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A unit of the packed charm: a machine made of stand-ins, and the charm's own dispatch on it.

The charm runs unmodified, with the paths of a real machine. Each dispatch has its own mount namespace, in which
directories below a fake root replace /run, /sys and /var, and a program replaces /usr/bin/snap. So a test neither
changes the host nor depends on it. snapd and the daemon outlive a dispatch: they run outside, with sockets inside.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from epa_orchestrator.allocation.settings import option_names
from epa_orchestrator.client.client import Client
from epa_orchestrator.configure.hook import apply_options
from epa_orchestrator.errors import EpaError
from epa_orchestrator.hardware.sysfs import SysfsTree
from tests import hooktools, juju
from tests.fake_snapd.server import write_program
from tests.fake_snapd.snapd import Snapd
from tests.fake_snapd.snaps import NAME, Snap, write_snap
from tests.juju import Outcome
from tests.service import Service
from tools.synthetic import Shape, build, write_tree

BUNDLED: Final = "epa-orchestrator.snap"

#: One package of four cores with two threads each, numbered as in most virtual machines.
_SHAPE: Final = Shape(cores_per_l3=4, threads_per_core=2, siblings="adjacent", hugepages={2048: (64, 64)})

#: $1 is the fake root; in /usr/bin only the command snap is replaced.
_ENTER: Final = """
set -e
root=$1
shift
mount --bind "$root/sys" /sys
mount -t overlay overlay -o "lowerdir=$root/bin:/usr/bin" /usr/bin
mount --bind "$root/run" /run
mount --bind "$root/var" /var
exec "$@"
"""
#: Commands that enter a new mount namespace: as root, and with a user namespace.
WAYS_IN: Final = (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"])


def make_root(root: Path) -> Path:
    """Make the directories of the fake root."""
    for directory in ("sys", "run", "var/lib/snapd/snaps", "var/lib/juju/agents", "var/snap", "bin", "tools"):
        (root / directory).mkdir(parents=True)
    write_program(root / "bin" / "snap", Path("/run/snapd.socket"))
    return root


def inside(way_in: list[str], root: Path, *command: str) -> list[str]:
    """A command line that runs a command on the fake machine."""
    return [*way_in, "sh", "-c", _ENTER, "sh", str(root), *command]


class Host:
    """The machine: its CPUs, its snapd, and the daemon of the installed snap."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.snapd = Snapd(root / "var/lib/snapd/snaps", root / "run/snapd/ns")
        self.snapd.configure_hook = self._configure
        self.snapd.on_revision = self._run_revision
        self.snapd.on_removed = self._remove
        self.snapd.on_service = self._start_or_stop
        #: What the older daemon writes into its state file when it starts.
        self.older_state: dict[str, Any] = {}
        #: The options that the installed snap does not know yet.
        self.unknown_options: list[str] = []
        self.service: Service | None = None
        self.isolate("2-7")

    @property
    def client(self) -> Client:
        """A client of the daemon, at the socket path of other snaps."""
        return Client(self._snap / "current" / "data" / "epa.sock")

    def isolate(self, cpus: str) -> None:
        """Change the CPUs that the kernel isolates, which get no timer ticks either."""
        write_tree(build(dataclasses.replace(_SHAPE, isolated=cpus)), self.root / "sys")
        self.tick_on(cpus, without=True)

    def tick_on(self, cpus: str, *, without: bool) -> None:
        """Say whether the kernel stops the timer tick on these CPUs."""
        file = self.root / "sys" / "devices" / "system" / "cpu" / "nohz_full"
        file.write_text(f"{cpus if without else '(null)'}\n", encoding="utf-8")

    def settings(self) -> dict[str, Any]:
        """The daemon's options."""
        return json.loads(self._settings.read_text(encoding="utf-8"))

    def close(self) -> None:
        """Stop the daemon."""
        if self.service is not None:
            self.service.stop()

    @property
    def _snap(self) -> Path:
        return self.root / "var" / "snap" / NAME

    @property
    def _settings(self) -> Path:
        return self._snap / "current" / "settings.json"

    def _configure(self, options: dict[str, Any]) -> str | None:
        """Run the code of the snap's configure hook, which asks snapd only for the options that it knows."""
        known = {name: options[name] for name in option_names() if name in options and name not in self.unknown_options}
        try:
            apply_options(known, self._settings, self._snap / "common", SysfsTree(self.root / "sys"))
        except EpaError as error:
            return str(error)
        return None

    def _run_revision(self, snap: Snap, old: str | None) -> None:
        if snap.name != NAME:
            return
        self.close()
        data = self._snap / snap.revision
        data.mkdir(parents=True, exist_ok=True)
        if old is not None:
            _copy(self._snap / old, data)
        (self._snap / "current").unlink(missing_ok=True)
        (self._snap / "current").symlink_to(snap.revision)
        if snap.older:
            (data / "data").mkdir(exist_ok=True)
            (data / "data" / "state.json").write_text(json.dumps(self.older_state), encoding="utf-8")
            self.service = None
            return
        environment = {"EPA_SYSFS": str(self.root / "sys"), "EPA_SETTINGS": str(self._settings)}
        self.service = Service(data, self._snap / "common", **environment)
        assert self._configure(snap.options) is None
        self.service.start()

    def _start_or_stop(self, name: str, action: str) -> None:
        if name != NAME or self.service is None:
            return
        self.service.stop()
        if action != "stop":
            self.service.start()

    def _remove(self, name: str) -> None:
        if name == NAME:
            self.close()
            shutil.rmtree(self._snap)


def _write_program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def _copy(source: Path, target: Path) -> None:
    """Copy a revision's data for the next revision, as a refresh does; sockets are not copied."""

    def sockets(directory: str, names: list[str]) -> list[str]:
        return [name for name in names if Path(directory, name).is_socket()]

    shutil.copytree(source, target, ignore=sockets, dirs_exist_ok=True)


@dataclass
class Unit:
    """The unit epa-orchestrator/0, subordinate to sunbeam-machine/0."""

    host: Host
    charm: Path
    way_in: list[str]
    #: The options set with `juju config`; the others have their defaults.
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    related: bool = True
    #: Whether a collector of the Canonical Observability Stack is related.
    collector: bool = False
    proxies: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        """Install the hook tools and a link to the running Python in the PATH of hooks."""
        tools = self.host.root / "tools"
        hooktools.install(tools)
        (tools / "python3").symlink_to(sys.executable)
        _write_program(self.host.root / "bin" / "systemd-detect-virt", "exit 1")
        self.attach("")

    def become_container(self) -> None:
        """Make systemd report that this machine is a container."""
        _write_program(self.host.root / "bin" / "systemd-detect-virt", "exit 0")

    def attach(self, version: str) -> None:
        """Attach a resource; without a version an empty file, as on Charmhub."""
        self._resource.unlink(missing_ok=True)
        if version:
            write_snap(self._resource, version)
        else:
            self._resource.touch()

    def attach_older(self) -> None:
        """Attach the older snap."""
        self._resource.unlink(missing_ok=True)
        write_snap(self._resource, "1.0", older=True)

    def bundle(self, version: str) -> None:
        """Put another snap, or an empty file, into the charm, as its next revision may."""
        (self.charm / BUNDLED).unlink()
        if version:
            write_snap(self.charm / BUNDLED, version)
        else:
            (self.charm / BUNDLED).touch()

    def hook(self, name: str, **environment: str) -> Outcome:
        """Run a hook, which must succeed."""
        outcome = self.dispatch(f"hooks/{name}", {"JUJU_HOOK_NAME": name, **environment})
        assert outcome.code == 0, outcome.output
        assert not outcome.has_traceback(), outcome
        return outcome

    def relation(self, event: str) -> Outcome:
        """Run a hook of the relation to the principal, such as `created`."""
        return self.hook(f"{juju.PRINCIPAL}-relation-{event}", **juju.relation(event))

    def install(self) -> Outcome:
        """Run the first hooks of a unit; returns the outcome of the last."""
        self.hook("install")
        self.relation("created")
        self.hook("config-changed")
        return self.hook("start")

    def configure(self, **options: Any) -> Outcome:
        """Set options and run config-changed."""
        self.config |= {name.replace("_", "-"): value for name, value in options.items()}
        return self.hook("config-changed")

    def action(self, name: str, **params: Any) -> Outcome:
        """Run an action with the defaults that Juju fills in; it must not raise an exception."""
        declared = self._yaml("actions.yaml")[name].get("params", {})
        defaults = {key: each["default"] for key, each in declared.items() if "default" in each}
        outcome = self.dispatch(f"actions/{name}", juju.action(name), defaults | params)
        assert outcome.code == 0, outcome.output
        assert not outcome.has_traceback(), outcome
        return outcome

    def dispatch(self, path: str, environment: dict[str, str], params: dict[str, Any] | None = None) -> Outcome:
        """Run the charm's dispatch, with any exit code."""
        answers = juju.answers(
            self._options(),
            related=self.related,
            resource=str(self._resource),
            action=params or {},
            collector=self.collector,
        )
        tools = self.host.root / "tools"
        (tools / "answers.json").write_text(json.dumps(answers), encoding="utf-8")
        for name in ("calls.jsonl", "logged"):
            (tools / name).write_text("", encoding="utf-8")
        done = subprocess.run(
            inside(self.way_in, self.host.root, str(self.charm / "dispatch")),
            cwd=self.charm,
            env=self._environment() | {"JUJU_DISPATCH_PATH": path} | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        calls, logged = ((tools / name).read_text(encoding="utf-8") for name in ("calls.jsonl", "logged"))
        return juju.read_outcome(done.returncode, calls, logged, done.stdout + done.stderr)

    @property
    def _resource(self) -> Path:
        return self.host.root / "attached.snap"

    def _yaml(self, name: str) -> dict[str, Any]:
        return yaml.safe_load((self.charm / name).read_text(encoding="utf-8"))

    def _options(self) -> dict[str, Any]:
        options = self._yaml("config.yaml")["options"]
        return {name: each["default"] for name, each in options.items()} | self.config

    def _environment(self) -> dict[str, str]:
        tools = self.host.root / "tools"
        return {
            **juju.unit(str(self.charm)),
            "PATH": f"{tools}:{os.defpath}:/usr/sbin:/sbin",
            "EPA_HOOKS": str(tools),
            **self.proxies,
        }
