# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Settings file: what the daemon uses of a file with mistakes, at the start and on SIGHUP."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from epa_orchestrator.allocation.settings import Settings
from epa_orchestrator.daemon.metrics_port import MetricsPort
from epa_orchestrator.daemon.orchestrator import Orchestrator
from epa_orchestrator.daemon.settings_file import Reload, read_settings

from .serving import LIST, Counting, ask, run


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"numa-policy": "yes", "cpu-pool": "0"}', "numa-policy='yes' is not valid: set it to 'best-effort'"),
        ("{", "is not JSON"),
        ("[]", "settings must be one JSON object"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_settings_with_mistakes_can_be_used(content: str | None, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    if content is not None:
        file.write_text(content)
    settings = read_settings(file)
    assert all(str(file) in warning and reason in warning for warning in settings.warnings)
    assert len(settings.warnings) == 1
    assert str(settings.cpu_pool) == ("0" if content and "cpu-pool" in content else "")


def test_no_settings_file_means_the_defaults() -> None:
    assert read_settings(None) == Settings()


class Serving:
    """A running daemon whose settings file can be written and read again."""

    def __init__(self, directory: Path, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator
        self._file = directory / "settings.json"
        metrics = MetricsPort(lambda: orchestrator.view(0), lambda sentences: orchestrator.warn("metrics", sentences))
        self._reload = Reload(self._file, orchestrator, metrics)

    def read(self, settings: object) -> None:
        self._file.write_text(settings if isinstance(settings, str) else json.dumps(settings))
        self._reload()

    @property
    def settings(self) -> Settings:
        return self._orchestrator.settings

    async def warnings(self) -> list[str]:
        (listing,) = await ask(self._orchestrator, LIST)
        return listing.get("warnings", [])

    def count(self) -> int:
        """The number of warnings in the metrics."""
        return self._orchestrator.view(0).warnings


@pytest.fixture
def serving(tmp_path: Path) -> Callable[[Callable[[Serving], Awaitable[None]]], None]:
    def serve(body: Callable[[Serving], Awaitable[None]]) -> None:
        async def with_file(orchestrator: Orchestrator, _: Counting) -> None:
            orchestrator.warn("metrics", ("port 1 is taken",))
            await body(Serving(tmp_path, orchestrator))

        run(tmp_path, with_file)

    return serve


def test_a_refused_file_changes_no_option(serving: Any) -> None:
    async def body(daemon: Serving) -> None:
        daemon.read({"numa-policy": "none"})
        daemon.read({"numa-policy": "restricted", "reserved-cpus": "x"})
        assert daemon.settings.numa_policy == "none"

    serving(body)


@pytest.mark.parametrize(
    ("settings", "after_a_restart"),
    [
        ({"reserved-cpus": "x"}, "no CPUs are granted"),
        ({"numa-policy": "x"}, "numa-policy is best-effort"),
        ("garbage", "no CPUs and no hugepages are granted, and all options have safe values"),
    ],
)
def test_a_refused_file_is_a_warning(settings: object, after_a_restart: str, serving: Any) -> None:
    async def body(daemon: Serving) -> None:
        daemon.read(settings)
        warning, _ = await daemon.warnings()
        assert warning.startswith("settings file ")
        assert warning.endswith(
            "; until this is corrected and the daemon gets SIGHUP, the settings in use stay as they are; after a"
            f" restart {after_a_restart}"
        )

    serving(body)


def test_each_mistake_is_a_warning(serving: Any) -> None:
    async def body(daemon: Serving) -> None:
        daemon.read({"reserved-cpus": "x", "cpu-pool": "y"})
        assert len(await daemon.warnings()) == 3

    serving(body)


def test_a_refused_file_counts_in_the_metrics(serving: Any) -> None:
    async def body(daemon: Serving) -> None:
        daemon.read("garbage")
        assert daemon.count() == 2

    serving(body)


def test_the_warning_is_about_the_file_that_was_read_last(serving: Any) -> None:
    async def body(daemon: Serving) -> None:
        daemon.read("garbage")
        daemon.read({"cpu-pool": "y"})
        warning, _ = await daemon.warnings()
        assert "cpu-pool='y'" in warning

    serving(body)


def test_a_right_file_ends_the_warning(serving: Any) -> None:
    async def body(daemon: Serving) -> None:
        daemon.read("garbage")
        daemon.read({})
        assert await daemon.warnings() == ["port 1 is taken"]

    serving(body)


def test_an_option_that_was_unusable_before_refuses_no_file(serving: Any, tmp_path: Path) -> None:
    async def body(daemon: Serving) -> None:
        daemon._orchestrator.use(Settings().without({"numa-policy": "numa-policy='x' is not valid"}))
        daemon.read({"numa-policy": "y", "cpu-distribution": "cores"})
        assert daemon.settings.cpu_distribution == "cores"

    serving(body)
