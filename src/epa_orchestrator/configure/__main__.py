# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Runs the snap's configure hook: `python3 -m epa_orchestrator.configure`."""

from __future__ import annotations

import sys

from epa_orchestrator.configure.hook import main

sys.exit(main())
