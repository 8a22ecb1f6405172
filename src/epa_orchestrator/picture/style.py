# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Style: the style sheet and the patterns of the SVG, for light pages and for dark ones."""

from __future__ import annotations

from typing import Final

from epa_orchestrator.picture.palette import COLOURS

_OWNERS: Final = "\n".join(
    f".thread.o{number} {{ fill: {colour.paper}; }} .t.o{number} {{ fill: {colour.ink}; }}"
    for number, colour in enumerate(COLOURS)
)

STYLE: Final = f"""\
svg {{ max-width: 100%; height: auto; }}
text {{ font-family: "DejaVu Sans", Verdana, "Segoe UI", sans-serif; font-size: 12px; fill: #1a1a1a; }}
.heading {{ font-size: 15px; font-weight: bold; }}
.label, .service {{ font-size: 12px; }}
.letter {{ font-size: 13px; font-weight: bold; text-anchor: middle; }}
.id {{ font-size: 11px; text-anchor: middle; }}
.paper {{ fill: #ffffff; stroke: #8a8f98; }}
.package {{ fill: #e4e7ec; stroke: #6b717c; stroke-width: 1.5; }}
.node {{ fill: #f2f4f7; stroke: #8a8f98; }}
.l3 {{ fill: #ffffff; stroke: #8a8f98; stroke-dasharray: 4 2; }}
.box.offline {{ fill: none; stroke: #8a8f98; stroke-dasharray: 1 2; }}
.core {{ fill: none; stroke: #1a1a1a; stroke-width: 1.5; }}
.thread {{ fill: #ffffff; stroke: #8a8f98; }}
.thread.free-general {{ fill: #dcefe3; }}
.thread.withheld {{ fill: url(#hatch); }}
.thread.reserved {{ fill: url(#dots); }}
.thread.not-isolated {{ fill: #d0d4da; }}
.thread.offline {{ fill: #ffffff; stroke-dasharray: 2 2; }}
.behind {{ fill: #ffffff; }}
.strike {{ stroke: #1a1a1a; stroke-width: 1.2; stroke-opacity: 0.6; }}
.differs {{ fill: #c00000; stroke: #ffffff; stroke-width: 0.7; }}
.hatch-paper, .dots-paper {{ fill: #ffffff; }}
.hatch-ink, .dots-ink {{ fill: #7d838c; }}
.bar {{ stroke: #6b717c; }}
.recorded {{ fill: #0072b2; }}
.others {{ fill: url(#hatch); }}
.bar.free {{ fill: #ffffff; }}
{_OWNERS}
@media (prefers-color-scheme: dark) {{
text {{ fill: #e8eaed; }}
.paper {{ fill: #14171b; stroke: #5c636e; }}
.package {{ fill: #262b32; stroke: #7d8590; }}
.node {{ fill: #1d2127; stroke: #6b727d; }}
.l3 {{ fill: #14171b; stroke: #6b727d; }}
.core {{ stroke: #c9ced6; }}
.thread {{ fill: #14171b; stroke: #6b727d; }}
.thread.free-general {{ fill: #1d3327; }}
.thread.not-isolated {{ fill: #3b414a; }}
.thread.offline, .behind, .bar.free {{ fill: #14171b; }}
.strike {{ stroke: #000000; }}
.differs {{ fill: #ff5c5c; stroke: #14171b; }}
.hatch-paper, .dots-paper {{ fill: #14171b; }}
.hatch-ink, .dots-ink {{ fill: #8d95a0; }}
.recorded {{ fill: #56b4e9; }}
}}"""

PATTERNS: Final = """\
<defs>
<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<rect class="hatch-paper" width="6" height="6"/><rect class="hatch-ink" width="2" height="6"/>
</pattern>
<pattern id="dots" width="5" height="5" patternUnits="userSpaceOnUse">
<rect class="dots-paper" width="5" height="5"/><circle class="dots-ink" cx="2.5" cy="2.5" r="1.3"/>
</pattern>
</defs>"""
