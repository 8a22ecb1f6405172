# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Protocol: the wire. The models of requests and answers, version 1.0, and how bytes become one request.

It checks a request's form, never its meaning, and knows neither state nor hardware.
"""
