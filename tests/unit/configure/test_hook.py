"""Options that snapd proposes become settings that a running daemon uses at once, or are refused and change nothing."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from epa_orchestrator import paths
from epa_orchestrator.allocation.claims import Claim
from epa_orchestrator.allocation.ledger import Ledger
from epa_orchestrator.allocation.settings import SettingsError, load_settings, option_names, parse_settings
from epa_orchestrator.configure import hook as configure
from epa_orchestrator.configure.hook import ConfigureError, main, proposed_options, put_in_use
from epa_orchestrator.configure.proposal import NotAcceptable
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.errors import EpaError
from epa_orchestrator.hardware.sysfs import SysfsTree
from epa_orchestrator.peer import Peer
from epa_orchestrator.state import store
from tests.functional.harness import Daemon, wait_until
from tools.synthetic import Shape, build, write_tree

ROOT = Path(__file__).parents[3]

#: Two nodes of four cores with one thread each: node 0 has CPUs 0-3, node 1 has CPUs 4-7.
SHAPE = Shape(packages=2, cores_per_l3=4, isolated="2-3,6-7", hugepages={2048: (8, 8)})

USED = {"cpu-pool": "0-1", "numa-reclaim": "never"}


class Snap:
    """The directories of an installed snap whose daemon does not run."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.data, self.common, self.sys = base / "data", base / "common", base / "sys"
        for directory in (self.data, self.common):
            directory.mkdir()
        self.settings = self.data / "settings.json"
        self.database = self.common / store.FILE_NAME
        write_tree(build(SHAPE), self.sys)

    def put(self, options: dict[str, Any]) -> None:
        put_in_use(options, self.settings, self.common, SysfsTree(self.sys))

    def claim(self, cpus: str, pages: int = 0) -> None:
        """Let nova have CPUs and hugepages of node 0."""
        ledger = Ledger.of(
            [Claim("nova", "isolated", CpuSet.parse(cpus), EMPTY, "legacy")],
            {"nova": {(0, 2048): pages}} if pages else {},
        )
        store.create(self.database, ledger, Peer(1, 0, 0), 1.0)

    def content(self) -> dict[str, bytes]:
        """What lies in the snap's directories."""
        files = [path for directory in (self.data, self.common) for path in directory.rglob("*") if path.is_file()]
        # SQLite makes an empty log and its index when it reads a database, and leaves them.
        return {
            str(path.relative_to(self.base)): path.read_bytes()
            for path in files
            if not path.name.endswith("-shm") and path.stat().st_size
        }

    def refusal(self, options: dict[str, Any], kind: type[EpaError]) -> str:
        """The sentence that refuses options and leaves everything as it was."""
        before = self.content()
        with pytest.raises(kind) as caught:
            self.put(options)
        assert self.content() == before
        return str(caught.value)


@pytest.fixture
def installed(tmp_path: Path) -> Snap:
    return Snap(tmp_path)


# --- without a daemon ---


def test_the_first_options_become_the_settings(installed: Snap) -> None:
    installed.put(USED)
    assert json.loads(installed.settings.read_text()) == USED
    assert load_settings(installed.settings) == parse_settings(USED)
    assert installed.content().keys() == {"data/settings.json"}


def test_options_replace_the_settings_as_a_whole(installed: Snap) -> None:
    installed.put(USED)
    installed.put({"reserved-cpus": "3"})
    assert load_settings(installed.settings) == parse_settings({"reserved-cpus": "3"})
    installed.put({})
    assert load_settings(installed.settings) == parse_settings({})
    assert installed.content().keys() == {"data/settings.json"}


def older_claims(installed: Snap, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the older daemon have left its state, which the first start will import."""
    monkeypatch.setenv("SNAP_DATA", str(installed.data))
    (installed.data / "data").mkdir()
    (installed.data / "data" / "state.json").write_text(content)


def test_claims_of_the_older_daemon_count_before_they_are_imported(
    installed: Snap, monkeypatch: pytest.MonkeyPatch
) -> None:
    older_claims(installed, '{"version": 1, "allocations_db": {"allocations": {"ceph-osd": "6-7"}}}', monkeypatch)
    assert "7 (held by ceph-osd)" in installed.refusal({"reserved-cpus": "7"}, NotAcceptable)
    installed.put({"reserved-cpus": "5"})


def test_nothing_leaves_a_pool_while_the_older_daemons_claims_cannot_be_read(
    installed: Snap, monkeypatch: pytest.MonkeyPatch
) -> None:
    older_claims(installed, "[]", monkeypatch)
    sentence = installed.refusal({"reserved-cpus": "7"}, NotAcceptable)
    assert "the claims are not known: the older daemon's state cannot be imported" in sentence
    installed.put({"numa-reclaim": "never"})


def test_a_reader_sees_old_or_new_settings_and_nothing_between(installed: Snap) -> None:
    installed.put(USED)
    with installed.settings.open() as old:
        installed.put({})
        assert json.loads(old.read()) == USED


def test_an_option_that_is_not_valid_is_refused(installed: Snap) -> None:
    installed.put(USED)
    sentence = installed.refusal({"numa-policy": "sideways"}, SettingsError)
    assert sentence.startswith("numa-policy='sideways' is not valid: set it to 'best-effort'")


def test_what_the_machine_does_not_have_is_refused(installed: Snap) -> None:
    installed.put(USED)
    assert installed.refusal({"cpu-pool": "0,9"}, NotAcceptable) == (
        "cpu-pool=0,9 names CPUs 9, which this machine does not have: choose out of 0-7"
    )
    assert installed.refusal({"reserved-hugepages": "1:2048:9"}, NotAcceptable) == (
        "reserved-hugepages=1:2048:9 reserves more than the 8 hugepages of 2048 KiB that NUMA node 1 has: reserve fewer"
    )


def test_what_would_orphan_claims_is_refused_and_the_settings_in_use_count(installed: Snap) -> None:
    installed.claim("2,6", pages=5)
    installed.put(USED)
    assert installed.refusal({"reserved-cpus": "2-3"}, NotAcceptable) == (
        "cpu-pool=empty and reserved-cpus=2-3 would take CPUs out of the pool that are in use: 2 (held by nova);"
        " release them first, or choose other CPUs"
    )
    assert installed.refusal(USED | {"reserved-hugepages": "0:2048:4"}, NotAcceptable) == (
        "reserved-hugepages=0:2048:4 leaves 4 of 8 pages, but 5 are in use (5 by nova): release some first, or"
        " reserve fewer"
    )
    installed.put(USED | {"reserved-cpus": "3,7", "reserved-hugepages": "0:2048:3"})


def test_unusable_settings_can_be_mended(installed: Snap) -> None:
    installed.settings.write_text("{")
    installed.put(USED)
    assert load_settings(installed.settings) == parse_settings(USED)


def test_a_host_that_cannot_be_read_hinders_only_what_needs_it(installed: Snap) -> None:
    installed.sys = installed.base / "nothing"
    assert installed.refusal({"cpu-pool": "0"}, NotAcceptable) == (
        "cpu-pool cannot be checked against the machine: sysfs shows no CPUs: devices/system/cpu is missing or cannot"
        " be listed; in a snap, connect its plugs"
    )
    installed.put({"numa-reclaim": "never"})


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty, although it once held the claims"),
        (b"rubbish" * 1000, "cannot be read: file is not a database"),
    ],
)
def test_claims_that_cannot_be_read_hinder_only_what_could_orphan_them(
    content: bytes, why: str, installed: Snap
) -> None:
    installed.database.write_bytes(content)
    assert installed.refusal({"reserved-cpus": "3"}, NotAcceptable) == (
        f"CPUs cannot be taken out of a pool while the claims are not known: the state database {why}"
    )
    installed.put(USED)
    assert installed.database.read_bytes() == content


def test_a_directory_that_is_not_there_is_told(installed: Snap) -> None:
    installed.settings = installed.base / "gone" / "settings.json"
    assert installed.refusal(USED, ConfigureError) == (
        f"The settings {installed.settings} cannot be written: No such file or directory"
    )


@pytest.fixture
def read_only(installed: Snap) -> Iterator[Snap]:
    """A snap whose settings lie where nothing can be written."""
    if os.geteuid() == 0:  # whom permissions do not stop
        mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(installed.data)]
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("no permission to mount here")
        yield installed
        subprocess.run(["umount", "-l", str(installed.data)], check=True)
    else:
        installed.data.chmod(0o500)
        yield installed
        installed.data.chmod(0o700)


def test_a_directory_that_cannot_be_written_is_told(read_only: Snap) -> None:
    sentence = read_only.refusal(USED, ConfigureError)
    assert sentence.startswith(f"The settings {read_only.settings} cannot be written: ")
    assert sentence.endswith(("Read-only file system", "Permission denied"))


def test_a_disk_that_takes_no_more_is_told_and_nothing_is_left_there(installed: Snap) -> None:
    installed.put(USED)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        sentence = installed.refusal({}, ConfigureError)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sentence == f"The settings {installed.settings} cannot be written: File too large"


def test_settings_that_cannot_be_read_are_told(installed: Snap) -> None:
    installed.settings.mkdir()
    sentence = installed.refusal(USED, ConfigureError)
    assert str(installed.settings) in sentence
    assert "it is not a regular file" in sentence


def test_a_fifo_in_the_place_of_the_settings_is_reported_without_waiting(installed: Snap) -> None:
    os.mkfifo(installed.settings)
    assert "it is not a regular file" in installed.refusal(USED, ConfigureError)


# --- who is told ---


def test_a_process_with_the_pid_of_a_daemon_of_the_past_is_left_alone(installed: Snap) -> None:
    """SIGHUP would end it."""
    with subprocess.Popen(["sleep", "60"]) as other:
        (installed.common / "lock").write_text(f"{other.pid}\n")
        installed.put(USED)
        time.sleep(0.1)
        assert other.poll() is None
        other.kill()


def test_a_daemon_that_ends_meanwhile_needs_not_be_told(installed: Snap) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    with (installed.common / "lock").open("w") as lock:
        lock.write(f"{gone.pid}\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed.put(USED)
    assert load_settings(installed.settings) == parse_settings(USED)


@pytest.mark.parametrize("before", [USED, None])
def test_when_the_daemon_cannot_be_told_the_settings_stay_as_they_were(
    before: dict[str, Any] | None, installed: Snap
) -> None:
    if before is not None:
        installed.put(before)
    (installed.common / "lock").mkdir()
    assert installed.refusal({"numa-reclaim": "always"}, ConfigureError) == (
        "The running daemon could not be told of the options: Is a directory"
    )


def fill_at(monkeypatch: pytest.MonkeyPatch, full: Callable[[], bool]) -> None:
    """Let fsync(2) fail as on a full disk while `full` says so."""
    sync = os.fsync

    def fail(fd: int) -> None:
        if full():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(fd)

    monkeypatch.setattr(os, "fsync", fail)


@pytest.mark.parametrize("before", [USED, None])
def test_on_a_disk_that_is_full_meanwhile_refused_settings_are_put_back(
    before: dict[str, Any] | None, installed: Snap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next start of the daemon would use what snapd says is not in use."""
    if before is not None:
        installed.put(before)
    (installed.common / "lock").mkdir()
    written: list[int] = []
    fill_at(monkeypatch, lambda: written.append(0) or len(written) > 2)
    installed.refusal({"numa-reclaim": "always"}, ConfigureError)
    assert len(written) > 2


@pytest.mark.parametrize("before", [USED, None])
@pytest.mark.parametrize("nth", [1, 2])
def test_settings_whose_sync_fails_are_refused_and_gone(
    nth: int, before: dict[str, Any] | None, installed: Snap, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before is not None:
        installed.put(before)
    synced: list[int] = []
    fill_at(monkeypatch, lambda: synced.append(0) or len(synced) == nth)
    sentence = installed.refusal({"numa-reclaim": "always"}, ConfigureError)
    assert sentence == f"The settings {installed.settings} cannot be written: No space left on device"


def test_more_than_the_daemon_reads_is_refused(installed: Snap) -> None:
    sentence = installed.refusal({"allowed-uids": [2**32 - 1] * 100_000}, ConfigureError)
    assert sentence.endswith("and may take 1048576: shorten their lists")


@pytest.mark.parametrize("make", [os.mkfifo, Path.touch], ids=["a FIFO", "a file"])
@pytest.mark.parametrize("name", [".settings.json.new", ".settings.json.old"])
def test_what_a_killed_hook_left_is_replaced(name: str, make: Callable[[Path], None], installed: Snap) -> None:
    make(installed.data / name)
    installed.put(USED)
    assert load_settings(installed.settings) == parse_settings(USED)
    assert sorted(os.listdir(installed.data)) == [".settings.json.lock", "settings.json"]


def test_two_hooks_do_not_write_the_same_file_at_once(installed: Snap) -> None:
    held = os.open(installed.data / ".settings.json.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX)
    other = threading.Thread(target=installed.put, args=(USED,))
    other.start()
    other.join(0.3)
    assert os.listdir(installed.data) == [".settings.json.lock"]
    os.close(held)
    other.join(30)
    assert load_settings(installed.settings) == parse_settings(USED)


# --- with a daemon ---


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """Two nodes; CPU n and n + 8 share a core, and CPUs 0, 4, 8 and 12 are not isolated."""
    with Daemon() as started:
        yield started.start()


def put(daemon: Daemon, options: dict[str, Any]) -> None:
    put_in_use(options, daemon.settings_path, daemon.common, SysfsTree(daemon.host.root))


def pool(daemon: Daemon, name: str) -> str:
    """The CPUs that the daemon may grant of a pool."""
    answer = daemon.call("list_allocations", pool=name)
    return answer["cpu_pool"]["eligible_cpus"] if "error" not in answer else ""


def test_a_running_daemon_uses_an_accepted_change_without_a_restart(daemon: Daemon) -> None:
    pid = daemon.pid
    assert pool(daemon, "general") == ""
    put(daemon, {"cpu-pool": "0,8", "reserved-cpus": "7,15"})
    wait_until(lambda: pool(daemon, "general") == "0,8", "the daemon uses the new pool")
    assert pool(daemon, "isolated") == "1-3,5-6,9-11,13-14"
    put(daemon, {})
    wait_until(lambda: pool(daemon, "general") == "", "the daemon has no such pool any more")
    assert daemon.pid == pid


def test_a_running_daemon_logs_as_much_as_it_is_told_to(daemon: Daemon) -> None:
    put(daemon, {"log-level": "error", "cpu-pool": "0"})
    wait_until(lambda: pool(daemon, "general") == "0", "the daemon uses the new settings")
    daemon.ok("list_allocations", service_name="unheard")
    put(daemon, {"log-level": "info"})
    wait_until(lambda: pool(daemon, "general") == "", "the daemon uses the new settings")
    daemon.ok("list_allocations", service_name="heard")
    wait_until(lambda: "'heard'" in daemon.log(), "the daemon logs again")
    assert "unheard" not in daemon.log()


def test_a_refused_change_leaves_the_daemon_and_its_settings_alone(daemon: Daemon) -> None:
    held = daemon.ok("allocate_cores", service_name="nova", num_of_cores=2)["allocated_cores"]
    before, said = daemon.settings_path.read_text(), len(daemon.log())
    with pytest.raises(NotAcceptable, match=rf"in use: {held} \(held by nova\); release them first"):
        put(daemon, {"reserved-cpus": held})
    daemon.ok("list_allocations")
    assert "settings read again" not in daemon.log()[said:]
    assert daemon.settings_path.read_text() == before


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_a_daemon_that_cannot_be_found_makes_the_change_fail(replaced: bool, daemon: Daemon) -> None:
    """It would go on with the earlier settings, although the operator was told nothing of it."""
    put(daemon, {"numa-reclaim": "never"})
    lock = daemon.common / "lock"
    lock.unlink()
    if replaced:
        lock.touch()
    with pytest.raises(ConfigureError, match=r"its lock file in .* was replaced or removed: restart it$"):
        put(daemon, {"numa-reclaim": "always"})
    assert load_settings(daemon.settings_path) == parse_settings({"numa-reclaim": "never"})


def test_a_killed_daemon_holds_its_claims_and_finds_the_settings_when_it_starts(daemon: Daemon) -> None:
    held = daemon.ok("allocate_cores", service_name="nova", num_of_cores=2)["allocated_cores"]
    daemon.kill()
    with pytest.raises(NotAcceptable, match=r"\(held by nova\)"):
        put(daemon, {"reserved-cpus": held})
    put(daemon, {"cpu-pool": "4"})
    daemon.start()
    assert pool(daemon, "general") == "4"


# --- as a hook ---


class Hook:
    """The hook's environment, with a stand-in for snapctl."""

    def __init__(self, installed: Snap, monkeypatch: pytest.MonkeyPatch) -> None:
        self.installed = installed
        self.asked = installed.base / "asked"
        self._monkeypatch = monkeypatch
        self.set("EPA_SETTINGS", installed.settings)
        self.set("SNAP_DATA", installed.data)
        self.set("SNAP_COMMON", installed.common)
        self.set("EPA_SYSFS", installed.sys)
        self.propose({})

    def set(self, name: str, value: object) -> None:
        self._monkeypatch.setenv(name, str(value))

    def snapctl(self, body: str) -> None:
        """Let snapctl do this."""
        program = self.installed.base / "bin" / "snapctl"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "$@" > {self.asked}\n{body}\n')
        program.chmod(0o755)
        self.set("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    def propose(self, options: object) -> None:
        """Let snapctl give these options."""
        self.snapctl(f"printf %s {shlex.quote(json.dumps(options))}")


@pytest.fixture
def hook(installed: Snap, monkeypatch: pytest.MonkeyPatch) -> Hook:
    return Hook(installed, monkeypatch)


def fails(hook: Hook, capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence on stderr of a hook that fails and changes nothing."""
    before = hook.installed.content()
    assert main() == 1
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.endswith("\n")
    assert written.err[:-1].isprintable()
    assert hook.installed.content() == before
    return written.err[:-1]


def test_the_hook_puts_the_proposed_options_in_use_and_says_nothing(
    hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    hook.propose(USED)
    assert main() == 0
    assert capsys.readouterr() == ("", "")
    assert load_settings(hook.installed.settings) == parse_settings(USED)


def test_the_hook_asks_for_all_options_as_one_document(hook: Hook) -> None:
    assert proposed_options() == {}
    assert hook.asked.read_text().split() == ["get", "-d", *option_names()]


def test_without_options_the_defaults_are_put_in_use(hook: Hook) -> None:
    hook.snapctl("true")
    assert main() == 0
    assert load_settings(hook.installed.settings) == parse_settings({})


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("echo 'error: no such context' >&2; exit 1", "The options cannot be read: error: no such context"),
        ("printf 'one\\ntwo\\n' >&2; exit 3", "The options cannot be read: one\N{REPLACEMENT CHARACTER}two"),
        ("echo {", "The options cannot be read: Expecting property name enclosed in double quotes"),
        ("echo []", "settings must be one JSON object of options, such as"),
        ("exit 3", "The options cannot be read: snapctl ended with 3"),
        ("printf '%0100000d' 0 | tr 0 '['", "The options cannot be read: the nesting is too deep"),
        ('echo \'{"cpu-pool": 1, "cpu-pool": 2}\'', "The options cannot be read: it has the key 'cpu-pool' twice"),
        ("printf '\\377'", "The options cannot be read: 'utf-8' codec can't decode byte"),
    ],
)
def test_a_snapctl_that_fails_or_talks_rubbish_is_told(
    body: str, sentence: str, hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    hook.snapctl(body)
    assert fails(hook, capsys).startswith(sentence)


def test_a_snapctl_that_hangs_is_told(
    hook: Hook, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configure, "_SNAPCTL_TIMEOUT", 0.2)
    hook.snapctl("exec sleep 60")
    assert fails(hook, capsys) == "The options cannot be read: snapctl took over 0.2 seconds"


def test_a_snapctl_that_is_not_there_is_told(hook: Hook, capsys: pytest.CaptureFixture[str]) -> None:
    hook.set("PATH", hook.installed.base / "empty")
    assert fails(hook, capsys) == "The options cannot be read: [Errno 2] No such file or directory: 'snapctl'"


def test_without_a_place_for_the_settings_the_hook_fails(hook: Hook, capsys: pytest.CaptureFixture[str]) -> None:
    hook.set("EPA_SETTINGS", "")
    assert paths.settings_file() is None
    assert fails(hook, capsys) == "EPA_SETTINGS does not say where the settings lie"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"resize-policy": "up"}, "resize-policy='up' is not valid: set it to 'in-place' or 'reallocate'"),
        ({"cpu-pool": "2"}, "cpu-pool=2 overlaps the isolated CPUs 2: take them out of cpu-pool"),
        (
            {"reserved-cpus": 6},
            (
                "reserved-cpus=6 would take CPUs out of the pool that are in use: 6 (held by nova); release them first,"
                " or choose other CPUs"
            ),
        ),
    ],
)
def test_a_refusal_is_one_sentence_for_the_operator(
    options: dict[str, Any], sentence: str, hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    hook.installed.claim("6")
    hook.propose(options)
    assert fails(hook, capsys) == sentence


@pytest.mark.parametrize(
    ("path", "reason"), [("data/settings.json", "it is not a regular file"), ("common/lock", "Is a directory")]
)
def test_what_is_broken_on_disk_is_told_without_a_traceback(
    path: str, reason: str, hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    (hook.installed.base / path).mkdir()
    assert reason in fails(hook, capsys)


@pytest.mark.parametrize("name", ["configure", "install", "post-refresh"])
def test_the_files_of_the_hooks_run_it(name: str, hook: Hook) -> None:
    python = hook.installed.base / "bin" / "python3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')  # a link would not know its virtual environment
    python.chmod(0o755)
    hook.set("PYTHONPATH", Path(configure.__file__).parents[2])
    hook.propose(USED)
    subprocess.run([str(ROOT / "snap" / "hooks" / name)], check=True)
    assert load_settings(hook.installed.settings) == parse_settings(USED)
    hook.propose({"cpu-pool": "5-2"})
    done = subprocess.run([str(ROOT / "snap" / "hooks" / name)], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("cpu-pool='5-2' is not valid: ")
    assert load_settings(hook.installed.settings) == parse_settings(USED)
