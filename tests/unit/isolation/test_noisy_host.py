# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The recorded host of the documentation is the one that its module makes."""

from __future__ import annotations

from tests.noisy_host import FILE, report


def test_file_is_the_report_of_the_noisy_host() -> None:
    assert FILE.read_text(encoding="utf-8") == report(), "run: python -m tests.noisy_host"
