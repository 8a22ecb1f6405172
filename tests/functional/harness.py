"""Start, feed and judge a real daemon from the outside; the contract is all that this file knows of it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from tools.synthetic import Shape, build

SOURCE: Final = Path(__file__).resolve().parents[2] / "src"

MEMORY: Final = Path("/dev/shm")  # a file system in memory, where there is one

#: Only there so that a hanging daemon fails a test instead of hanging the run; no test passes or fails by it otherwise.
PATIENCE: Final = 30.0

#: What a request may take while other clients misbehave, and how long the daemon waits for a whole request (issue 2).
SERVED_WITHIN: Final = 1.0
READ_TIMEOUT: Final = 5.0

Json: TypeAlias = dict[str, Any]


def parse_cpus(text: str) -> set[int]:
    """Read the kernel's CPU list syntax, and insist on its normal form."""
    cpus: set[int] = set()
    for part in text.split(",") if text else []:
        low, _, high = part.partition("-")
        cpus.update(range(int(low), int(high or low) + 1))
    assert format_cpus(cpus) == text, f"not the kernel's way to write a CPU list: {text!r}"
    return cpus


def format_cpus(cpus: Iterable[int]) -> str:
    """Write CPU ids as the kernel does."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def wait_until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Wait for something that happens outside this process."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.01)


class Host:
    """A made-up machine as a sysfs tree on disk, which a test can change under the running daemon."""

    def __init__(self, root: Path, shape: Shape) -> None:
        self.root = root
        self._shape = self._first = shape
        self._files: dict[str, str] = {}
        self._show(shape)

    @property
    def isolated(self) -> set[int]:
        """The isolated CPUs, offline ones too."""
        return parse_cpus(self._shape.isolated)

    def isolated_in(self, node: int) -> set[int]:
        """The isolated CPUs of a node, offline ones too."""
        return set(self._shape.node_cpus(node)) & self.isolated

    def core_of(self, cpu: int) -> frozenset[int]:
        """All threads of the CPU's core, offline ones too."""
        cores = self._shape.cores
        return frozenset(cpu % cores + thread * cores for thread in range(self._shape.threads_per_core))

    def set_pages(self, node: int, size_kb: int, total: int, free: int) -> None:
        """Let the kernel have other hugepages from now on."""
        nodes = {number: dict(pages) for number, pages in self._shape.node_hugepages.items()}
        nodes.setdefault(node, {})[size_kb] = (total, free)
        self._show(dataclasses.replace(self._shape, node_hugepages=nodes))

    def set_offline(self, cpus: Iterable[int]) -> None:
        """Take exactly these CPUs offline, as a hot-unplug does: their topology and cache files go."""
        self._show(dataclasses.replace(self._shape, offline=format_cpus(cpus)))

    def set_isolated(self, cpus: Iterable[int]) -> None:
        """Let the kernel name other isolated CPUs."""
        self._show(dataclasses.replace(self._shape, isolated=format_cpus(cpus)))

    def become(self, **changes: Any) -> None:
        """Be another machine, one with these differences to the present one."""
        self._show(dataclasses.replace(self._shape, **changes))

    def put(self, path: str, text: str) -> None:
        """Replace one file; its reader sees the old text or the new one and nothing between, as in sysfs."""
        target = self.root / path
        if path in self._files:
            new = target.with_name(target.name + ".new")
            new.write_text(text + "\n")
            new.replace(target)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text + "\n")
        self._files[path] = text

    def remove(self, path: str = "") -> None:
        """Take a file or directory away; without a path the whole tree, so that nothing of the host can be read."""
        target = self.root / path
        if target.is_dir():
            shutil.rmtree(target)
            path = f"{path}/" if path else ""
        else:
            target.unlink()
        self._files = {name: text for name, text in self._files.items() if not name.startswith(path)}

    def restore(self) -> None:
        """Undo what `put` and `remove` did."""
        self._show(self._shape)

    def reset(self) -> None:
        """Be the machine of the beginning."""
        self._show(self._first)

    def _show(self, shape: Shape) -> None:
        files = build(shape)
        for path in self._files.keys() - files.keys():
            (self.root / path).unlink()
            del self._files[path]
            for directory in Path(path).parents:
                with contextlib.suppress(OSError):  # not empty yet, or not any more there
                    (self.root / directory).rmdir()
        for path, text in files.items():
            if self._files.get(path) != text:
                self.put(path, text)
        self._shape = shape


#: Two packages of one node, each of four cores with two threads: CPU n and n + 8 share a core, node 0 has 0-3 and 8-11.
#: The first core of each node is left to the system. Node 2 has memory and nothing else.
SMALL: Final = Shape(
    packages=2,
    cores_per_l3=4,
    threads_per_core=2,
    isolated="1-3,5-7,9-11,13-15",
    memory_only_nodes=1,
    node_hugepages={0: {2048: (64, 64), 1048576: (4, 4)}, 1: {2048: (32, 32)}},
)


def error_of(answer: Json) -> str:
    """The sentence of an error object; fails for anything else, and for a sentence that is not clear."""
    assert set(answer) == {"version", "error"}, answer
    assert answer["version"] == "1.0"
    sentence = answer["error"]
    assert isinstance(sentence, str)
    assert sentence.strip()
    assert sentence.isprintable(), f"line breaks or control characters in {sentence!r}"
    assert not re.search(r"Traceback|Exception|File \"|0x[0-9a-f]{6}|\b[A-Z]\w+Error\b", sentence), sentence
    return sentence


def connect(path: Path, timeout: float = PATIENCE) -> socket.socket:
    """A connection to the daemon's socket."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(timeout)
    try:
        client.connect(str(path))
    except BaseException:
        client.close()
        raise
    return client


def read_to_end(client: socket.socket) -> bytes:
    """Everything up to the end of file."""
    chunks: list[bytes] = []
    while chunk := client.recv(65536):
        chunks.append(chunk)
    return b"".join(chunks)


def encode(action: str, fields: Mapping[str, Any]) -> bytes:
    """A request as clients write it."""
    return json.dumps({"version": "1.0", "action": action, **fields}).encode()


def decode(answer: bytes) -> Json:
    """The one JSON object of an answer."""
    decoded: Json = json.loads(answer)
    assert isinstance(decoded, dict), answer  # pyright: ignore[reportUnnecessaryIsInstance]
    assert decoded.get("version") == "1.0", answer
    return decoded


class Process:
    """A started daemon process whose output is collected, so that a full pipe can never hold it up."""

    def __init__(self, command: list[str], environment: Mapping[str, str], pass_fds: tuple[int, ...] = ()) -> None:
        self.popen = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=pass_fds,
        )
        self._output = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def output(self) -> str:
        """What it has printed and logged so far."""
        return self._output.decode(errors="replace")

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit code, after it has ended by itself."""
        code = self.popen.wait(seconds)
        self._reader.join(PATIENCE)
        return code

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        """SIGKILL: no chance to put anything in order."""
        self.popen.kill()
        self.wait()

    def close(self) -> None:
        """End it, whatever state it is in."""
        if self.running:
            self.kill()
        self._reader.join(PATIENCE)

    def _read(self) -> None:
        assert self.popen.stdout is not None
        with self.popen.stdout as stream:
            while chunk := os.read(stream.fileno(), 65536):
                self._output += chunk


class Daemon:
    """One daemon with directories of its own; they outlive its process, so that it can be started again."""

    def __init__(self, shape: Shape = SMALL, settings: Json | None = None) -> None:
        # Not pytest's tmp_path: a socket address has room for 107 characters only.
        self.base = Path(tempfile.mkdtemp(prefix="epa-"))
        self.data, self.common = self.base / "data-rev", self.base / "common"
        self.data.mkdir()
        self.common.mkdir()
        self.socket_path = self.data / "data" / "epa.sock"
        self.settings_path = self.base / "settings.json"
        self.configure(settings or {})
        # Its thousands of small files need no disk.
        self._sysfs = Path(tempfile.mkdtemp(prefix="epa-", dir=MEMORY if MEMORY.is_dir() else None))
        self.host = Host(self._sysfs / "sys", shape)
        self.environment = clean_environment() | {
            "SNAP_DATA": str(self.data),
            "SNAP_COMMON": str(self.common),
            "EPA_SYSFS": str(self.host.root),
            "EPA_SETTINGS": str(self.settings_path),
        }
        self.process: Process | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.process is not None and self.process.running and kind is None:
                assert self.stop() == 0, self.log()
        finally:
            if self.process is not None:
                self.process.close()
                print(self.log()[-20_000:])  # pytest shows it when the test fails
            shutil.rmtree(self.base, ignore_errors=True)
            shutil.rmtree(self._sysfs, ignore_errors=True)

    @property
    def pid(self) -> int:
        return self._running().pid

    def configure(self, settings: Json | str) -> None:
        """Write the operator's settings; the daemon reads them when it starts and on SIGHUP."""
        self.settings_path.write_text(settings if isinstance(settings, str) else json.dumps(settings))

    def reload(self, settings: Json) -> None:
        """Let the running daemon read other settings, and wait until it has."""
        said = len(self.log())
        self.configure(settings)
        self.send_signal(signal.SIGHUP)
        wait_until(lambda: "settings read again" in self.log()[said:], "the settings are read")

    def hold(self, service: str, cpus: str, **fields: Any) -> None:
        """Let a service have exactly these CPUs: for the moment they are the only isolated ones."""
        isolated = self.host.isolated
        self.host.set_isolated(parse_cpus(cpus))
        assert self.cores(service, len(parse_cpus(cpus)), **fields) == parse_cpus(cpus)
        self.host.set_isolated(isolated)

    def launch(
        self,
        environment: Mapping[str, str] | None = None,
        launcher: list[str] | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> Process:
        """Start the process and wait for nothing."""
        assert self.process is None or not self.process.running
        if self.process is not None:
            self.process.close()
        command = [*(launcher or []), sys.executable, "-m", "epa_orchestrator", "serve"]
        self.process = Process(command, self.environment | dict(environment or {}), pass_fds)
        return self.process

    def start(
        self,
        environment: Mapping[str, str] | None = None,
        launcher: list[str] | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> Self:
        """Start the process and wait until it answers."""
        process = self.launch(environment, launcher, pass_fds)

        def answers() -> bool:
            assert process.running, f"exit code {process.popen.returncode}:\n{process.output()}"
            try:
                return "version" in self.call("list_allocations")
            except OSError:
                return False

        wait_until(answers, "the daemon answers")
        return self

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        process = self._running()
        process.signal(signal.SIGTERM)
        code = process.wait()
        assert "Traceback" not in process.output(), process.output()
        return code

    def kill(self) -> None:
        """SIGKILL."""
        self._running().kill()

    def send_signal(self, number: int) -> None:
        """Send a signal and wait for nothing."""
        self._running().signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """The exit code of a process that has been told to end."""
        return self._running().wait(seconds)

    def restart(self, environment: Mapping[str, str] | None = None) -> None:
        """Stop in good order and start again."""
        assert self.stop() == 0, self.log()
        self.start(environment)

    def log(self) -> str:
        """What the process has printed and logged so far."""
        assert self.process is not None
        return self.process.output()

    def request(self, request: bytes, timeout: float = PATIENCE) -> bytes:
        """One write, then read to the end of file."""
        with connect(self.socket_path, timeout) as client:
            client.sendall(request)
            return read_to_end(client)

    def call(self, action: str, **fields: Any) -> Json:
        """One request, whatever its answer."""
        return decode(self.request(encode(action, fields)))

    def ok(self, action: str, **fields: Any) -> Json:
        """One request that must be granted."""
        answer = self.call(action, **fields)
        assert "error" not in answer, answer
        return answer

    def refused(self, action: str, **fields: Any) -> str:
        """One request that must be refused and must change nothing; the sentence."""
        before = self.snapshot()
        sentence = error_of(self.call(action, **fields))
        assert self.snapshot() == before
        return sentence

    def claims(self, pool: str = "isolated") -> dict[str, set[int]]:
        """Who owns which CPUs, by the listing, whose totals are checked on the way."""
        return check_listing(self.ok("list_allocations", pool=pool))

    def entry(self, service: str, pool: str = "isolated") -> Json:
        """The listing's entry of a service."""
        entries = self.ok("list_allocations", pool=pool)["allocations"]
        (found,) = [entry for entry in entries if entry["service_name"] == service]
        return found

    def snapshot(self) -> tuple[Json, Json, Json]:
        """All that the reading actions say."""
        return (
            self.call("list_allocations", pool="isolated"),
            self.call("list_allocations", pool="general"),
            self.call("get_memory_info"),
        )

    def cores(self, service: str, count: int, **fields: Any) -> set[int]:
        """The CPUs that `allocate_cores` grants."""
        answer = self.ok("allocate_cores", service_name=service, num_of_cores=count, **fields)
        return parse_cpus(answer["allocated_cores"])

    def numa(self, service: str, node: int, count: int, **fields: Any) -> set[int]:
        """The CPUs that `allocate_numa_cores` grants."""
        answer = self.ok("allocate_numa_cores", service_name=service, numa_node=node, num_of_cores=count, **fields)
        return parse_cpus(answer["cores_allocated"])

    def pages(self, service: str, node: int, size_kb: int, count: int) -> Json:
        """The answer of a granted `allocate_hugepages`."""
        return self.ok(
            "allocate_hugepages", service_name=service, node_id=node, size_kb=size_kb, hugepages_requested=count
        )

    def free_pages(self, node: int, size_kb: int) -> int:
        """What `get_memory_info` calls free."""
        for page in self.ok("get_memory_info")["numa_hugepages"][f"node{node}"]["capacity"]:
            if page["size"] == size_kb:
                return page["free"]
        raise AssertionError(f"node {node} has no pages of {size_kb} KiB")

    def release_everything(self) -> None:
        """Take every claim and every record away, by the same requests as clients would."""
        for pool in ("isolated", "general"):
            for entry in self.call("list_allocations", pool=pool).get("allocations", []):
                self.cores(entry["service_name"], -1, pool=pool)
        for node, memory in self.ok("get_memory_info")["numa_hugepages"].items():
            for service, sizes in memory["allocations"].items():
                for size in sizes:
                    self.pages(service, int(node.removeprefix("node")), int(size), -1)

    def _running(self) -> Process:
        assert self.process is not None
        return self.process


class Reused:
    """A started daemon that tests have one after the other: starting one for each would take most of the time.

    A test leaves nothing behind, which is checked; one that ends or starts the process or changes the settings leaves
    the next test a new daemon.
    """

    def __init__(
        self, shape: Shape = SMALL, settings: Json | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._shape, self._settings, self._environment = shape, settings, environment
        self._daemon: Daemon | None = None
        self._process: Process | None = None
        self._said = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @contextlib.contextmanager
    def lent(self) -> Generator[Daemon]:
        """The daemon for one test."""
        daemon = self._daemon
        if daemon is None:
            daemon = self._daemon = Daemon(self._shape, self._settings)
            daemon.start(self._environment)
            self._process, self._said = daemon.process, 0
        settings, before = daemon.settings_path.read_text(), daemon.snapshot()
        try:
            yield daemon
        finally:
            print(daemon.log()[self._said :][-20_000:])  # pytest shows it when the test fails
        process = daemon.process
        if (
            process is not self._process
            or not (process and process.running)
            or settings != daemon.settings_path.read_text()
        ):
            self._close()
            return
        daemon.host.reset()
        daemon.release_everything()
        assert daemon.snapshot() == before, "something is left behind"
        self._said = len(daemon.log())

    def _close(self) -> None:
        daemon, self._daemon = self._daemon, None
        if daemon is not None:
            with daemon:
                pass


def check_listing(listing: Json) -> dict[str, set[int]]:
    """Check that a listing agrees with itself; who owns which CPUs."""
    assert "error" not in listing, listing
    pool = listing["cpu_pool"]
    eligible, unavailable = parse_cpus(pool["eligible_cpus"]), parse_cpus(pool["unavailable_allocated_cpus"])
    assert eligible <= parse_cpus(pool["configured_cpus"])
    claims: dict[str, set[int]] = {}
    owned: set[int] = set()
    withheld: set[int] = set()
    names = [entry["service_name"] for entry in listing["allocations"]]
    assert names == sorted(set(names))
    for entry in listing["allocations"]:
        cpus = parse_cpus(entry["allocated_cores"])
        assert cpus, entry
        assert entry["cores_count"] == len(cpus)
        assert entry["pool"] == listing["pool"]
        assert not cpus & owned, f"CPUs {format_cpus(cpus & owned)} have two owners: {listing}"
        owned |= cpus
        kept = parse_cpus(entry.get("withheld_cpus", ""))
        assert not kept & withheld, f"CPUs {format_cpus(kept & withheld)} are withheld twice: {listing}"
        withheld |= kept
        claims[entry["service_name"]] = cpus
    assert not withheld & owned, f"CPUs {format_cpus(withheld & owned)} are withheld and owned: {listing}"
    assert set(listing.get("outdated_placements", ())) <= claims.keys()
    assert listing["total_allocations"] == len(claims)
    assert listing["total_allocated_cpus"] == len(owned)
    assert unavailable == owned - eligible
    if "state_error" not in listing:
        assert listing["total_available_cpus"] == len(eligible)
        assert listing["remaining_available_cpus"] == len(eligible - owned - withheld)
    return claims


def clean_environment() -> dict[str, str]:
    """This process's environment without what would change a daemon's behaviour, and with the source tree."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("EPA_", "SNAP", "LISTEN_", "NOTIFY_", "WATCHDOG_"))
    }
    path = os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH"))))
    return inherited | {"PYTHONPATH": path}


@contextlib.contextmanager
def in_threads(*jobs: Callable[[], object]) -> Generator[None]:
    """Run jobs beside the body, each in a thread of its own; at its end wait for them and pass on the first failure."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        running = [pool.submit(job) for job in jobs]
        yield
    for job in running:
        job.result()


def run_all(jobs: Iterable[Callable[[], object]]) -> None:
    """Run jobs at once, each in a thread of its own, and wait for all."""
    with in_threads(*jobs):
        pass
