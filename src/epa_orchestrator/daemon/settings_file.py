# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Settings file: reads the operator's options at the start and on SIGHUP, whatever mistakes they have."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from epa_orchestrator import paths
from epa_orchestrator.allocation.settings import Settings, SettingsError, load_settings, read_options
from epa_orchestrator.allocation.usable_settings import no_usable_settings, usable_settings
from epa_orchestrator.daemon import systemd
from epa_orchestrator.daemon.logs import set_level
from epa_orchestrator.daemon.metrics_port import MetricsPort
from epa_orchestrator.daemon.orchestrator import Orchestrator

log = logging.getLogger(__name__)


def read_settings(file: Path | None) -> Settings:
    """The settings in the file; the daemon can use them, and `Settings.unusable` says what is wrong with the file."""
    try:
        return load_settings(file)
    except SettingsError as error:
        reason = str(error)
    try:
        return usable_settings(read_options(file), f"settings file {file}: ") if file else no_usable_settings(reason)
    except SettingsError:
        return no_usable_settings(reason)


class Reload:
    """Reads the settings and the machine again.

    When an option has become unusable, the settings in use stay, and a warning says so until a right file is read.
    """

    def __init__(self, file: Path | None, orchestrator: Orchestrator, metrics: MetricsPort) -> None:
        self._file = file
        self._orchestrator = orchestrator
        self._metrics = metrics

    def __call__(self) -> None:
        """Read both."""
        systemd.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        settings = read_settings(self._file)
        mistakes = settings.mistakes_against(self._orchestrator.settings)
        for mistake in mistakes:
            log.error("%s", mistake)
        if not mistakes:
            set_level(settings.log_level or paths.log_level())
            self._orchestrator.use(settings)
            self._metrics.use(settings.metrics_port)
            log.info("settings read again")
        self._orchestrator.warn("settings", mistakes)
        self._orchestrator.read_host_again()
        systemd.notify("READY=1")
