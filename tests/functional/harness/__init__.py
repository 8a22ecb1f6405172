# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Start, feed and judge a real daemon from the outside; the contract is all that this package knows of it."""

from .asking import (
    READ_TIMEOUT,
    SERVED_WITHIN,
    Json,
    check_listing,
    connect,
    decode,
    encode,
    error_of,
    read_to_end,
    two_whole_cores,
)
from .cpus import format_cpus, parse_cpus
from .daemon import Daemon, Reused
from .host import MEMORY, SMALL, Host
from .process import Process, clean_environment, cpu_seconds, open_files
from .waiting import PATIENCE, in_threads, run_all, wait_until

__all__ = [
    "MEMORY",
    "PATIENCE",
    "READ_TIMEOUT",
    "SERVED_WITHIN",
    "SMALL",
    "Daemon",
    "Host",
    "Json",
    "Process",
    "Reused",
    "check_listing",
    "clean_environment",
    "connect",
    "cpu_seconds",
    "decode",
    "encode",
    "error_of",
    "format_cpus",
    "in_threads",
    "open_files",
    "parse_cpus",
    "read_to_end",
    "run_all",
    "two_whole_cores",
    "wait_until",
]
