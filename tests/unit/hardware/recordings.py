# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The paths and texts of random recordings."""

from __future__ import annotations

from hypothesis import strategies as st

#: Paths as sysfs has them; the CPU's number stands in at most one directory of a path.
NAMES = st.text(alphabet="abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=6)
PATHS = st.one_of(
    st.builds("devices/{}/{}".format, NAMES, NAMES),
    st.builds("devices/system/cpu/cpu{}/{}".format, st.integers(0, 65_535), NAMES),
    st.builds("devices/system/cpu/cpu{}/{}/{}".format, st.integers(0, 30), NAMES, NAMES),
    st.builds("devices/system/node/node{}/cpu{}/{}".format, st.integers(0, 3), st.integers(0, 30), NAMES),
)
TEXTS = st.one_of(st.sampled_from(["", "0", "1", "0-3"]), st.text(max_size=12))
