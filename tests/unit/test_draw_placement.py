# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The pictures of placement are those that the code draws now, and show every CPU and every request."""

from __future__ import annotations

import re
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints
from xml.etree import ElementTree

import pytest

from epa_orchestrator.allocation.settings import Settings, parse_settings
from epa_orchestrator.cpuset import EMPTY
from epa_orchestrator.picture.widths import pixels_of
from epa_orchestrator.placement.policy import PlacementPolicy
from epa_orchestrator.placement.search import choose
from epa_orchestrator.placement.topology import build_topology
from tools import draw_placement, generated
from tools.draw_placement import DRAWN, PICTURES, REQUESTS, SHAPE, draw, outcome

SVG = "{http://www.w3.org/2000/svg}"
PAGE = PICTURES.parent / "explanation" / "placement.md"

every_picture = pytest.mark.parametrize("name", DRAWN)


def read(name: str) -> ElementTree.Element:
    return ElementTree.fromstring((PICTURES / f"{name}.svg").read_text("utf-8"))


def groups(picture: ElementTree.Element, kind: str) -> list[ElementTree.Element]:
    return [each for each in picture.iter(f"{SVG}g") if each.get("class") == kind]


def text(group: ElementTree.Element, kind: str) -> str | None:
    classes = ((each.text, each.get("class", "").split()) for each in group.iter(f"{SVG}text"))
    return next((found for found, names in classes if kind in names), None)


def services(picture: ElementTree.Element) -> dict[str, str]:
    """By service: its letter in the legend."""
    entries = [entry for entry in groups(picture, "entry") if text(entry, "service")]
    return {str(text(entry, "service")): str(text(entry, "letter")) for entry in entries}


def marked(element: ElementTree.Element) -> bool:
    return any("differs" in each.get("class", "").split() for each in element.iter(f"{SVG}path"))


@every_picture
def test_up_to_date(name: str) -> None:
    assert (PICTURES / f"{name}.svg").read_text("utf-8") == draw(DRAWN[name])


def test_no_page_lacks_its_picture_and_no_picture_its_page() -> None:
    pages = [PICTURES.parents[1] / "README.md", *PICTURES.parent.rglob("*.md")]
    shown = {
        name for page in pages for name in re.findall(r"\]\([\w./-]*pictures/([\w.-]+)\)", page.read_text("utf-8"))
    }
    assert {path.name for path in PICTURES.iterdir()} == shown


@every_picture
def test_every_cpu_appears_once(name: str) -> None:
    ids = Counter(text(cpu, "id") for cpu in groups(read(name), "cpu"))
    assert ids == Counter(str(cpu) for cpu in range(SHAPE.cpus))


@every_picture
def test_the_legend_names_each_request(name: str) -> None:
    assert services(read(name)) == dict(zip([each.service for each in REQUESTS], "ABCDE", strict=True))


@every_picture
def test_every_request_is_drawn_with_all_its_cpus_or_refused(name: str) -> None:
    picture, found = read(name), outcome(DRAWN[name])
    drawn = Counter(cpu.get("data-mark") for cpu in groups(picture, "cpu"))
    for request in REQUESTS:
        expected = 0 if request.service in found.refused else request.asked
        assert drawn[services(picture)[request.service]] == expected, request.service


@every_picture
def test_what_differs_from_the_defaults_is_marked(name: str) -> None:
    picture, found, defaults = read(name), outcome(DRAWN[name]), outcome({})
    changed = {each for each in services(picture) if found.granted.get(each) != defaults.granted[each]}
    entries = groups(picture, "entry")
    assert {text(entry, "service") for entry in entries if text(entry, "service") and marked(entry)} == changed
    assert any(text(entry, "rest") == "not as by default" for entry in entries) == bool(changed)
    by_default = {cpu.get("data-cpu"): cpu.get("data-mark") for cpu in groups(read("defaults"), "cpu")}
    for cpu in groups(picture, "cpu"):
        assert marked(cpu) == (by_default[cpu.get("data-cpu")] != cpu.get("data-mark"))


@every_picture
def test_nothing_is_drawn_outside(name: str) -> None:
    picture = read(name)
    width, height = float(picture.get("width", 0)), float(picture.get("height", 0))
    assert width == 400
    for right, bottom in corners(picture):
        assert right <= width
        assert bottom <= height


def corners(element: ElementTree.Element, x: float = 0, y: float = 0) -> list[tuple[float, float]]:
    """The lower right corners of all rectangles, and of all texts as wide as they can be expected to be."""
    if element.tag == f"{SVG}defs":
        return []
    found: list[tuple[float, float]] = []
    if move := re.fullmatch(r"translate\((\d+) (\d+)\)", element.get("transform", "")):
        x, y = x + float(move[1]), y + float(move[2])
    left, top = x + float(element.get("x", 0)), y + float(element.get("y", 0))
    if element.tag == f"{SVG}rect":
        found.append((left + float(element.get("width", 0)), top + float(element.get("height", 0))))
    elif element.tag == f"{SVG}text" and not {"letter", "id"} & set(element.get("class", "").split()):
        size = 15 if element.get("class") == "heading" else 12
        found.append((left + pixels_of(element.text or "", size), top))
    return found + [corner for child in element for corner in corners(child, x, y)]


def test_no_two_pictures_are_alike() -> None:
    owners = {tuple(cpu.get("data-mark") for cpu in groups(read(name), "cpu")) for name in DRAWN}
    assert len(owners) == len(DRAWN)


#: Read off the types of the fields, so that a new value has to be drawn and explained.
POSSIBLE: dict[str, tuple[str, ...]] = {
    field.name.replace("_", "-"): get_args(hints[field.name])
    for hints in (get_type_hints(PlacementPolicy),)
    for field in fields(PlacementPolicy)
    if get_origin(hints[field.name]) is Literal
}


@pytest.mark.parametrize("option", ["numa-allocation-strategy", "cpu-thread-policy", "cpu-distribution"])
def test_every_value_is_drawn(option: str) -> None:
    assert {options.get(option, Settings().value(option)) for options in DRAWN.values()} == set(POSSIBLE[option])


def test_the_page_shows_every_picture() -> None:
    shown = re.findall(r"!\[[^\]]+\]\(\.\./pictures/([\w-]+)\.svg\)", PAGE.read_text("utf-8"))
    assert set(shown) == set(DRAWN)


REFUSAL = re.compile(r"<!-- refusal: ([\w-]+)=([\w-]+) ([\w-]+) -->\n```\n(.*?)\n```", re.DOTALL)


def test_the_refusals_on_the_page_are_the_daemons() -> None:
    quoted = REFUSAL.findall(PAGE.read_text("utf-8"))
    assert len(quoted) == 3
    for option, value, service, sentence in quoted:
        assert str(outcome({option: value}).refused[service]) == " ".join(sentence.split())


@pytest.mark.parametrize(("service", "count", "expected"), [("vm-b", 5, "6-8,30-31"), ("ovs-dpdk", 2, "0,24")])
def test_the_claims_on_the_page_grow_and_shrink_so(service: str, count: int, expected: str) -> None:
    found = outcome({})
    topology = build_topology(found.machine, found.machine.isolated, EMPTY)
    assert str(choose(topology, found.free, found.granted[service], count)) == expected
    assert expected in PAGE.read_text("utf-8")


def test_the_settings_on_the_page_are_valid_together() -> None:
    lines = re.findall(r"^juju config epa-orchestrator (.+)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert len(lines) == 4
    for line in lines:
        parse_settings(dict(word.split("=") for word in line.split()))


def test_links_lead_somewhere() -> None:
    page = PAGE.read_text("utf-8")
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= anchors
    assert all((PAGE.parent / path).exists() for path in re.findall(r"\]\((?!#|https:)([^)#]+)", page))


def test_check_fails_for_a_stale_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generated, "ROOT", tmp_path)
    monkeypatch.setattr(draw_placement, "PICTURES", tmp_path / "pictures")
    monkeypatch.setattr(sys, "argv", ["draw_placement.py"])
    assert draw_placement.main() == 0
    monkeypatch.setattr(sys, "argv", ["draw_placement.py", "--check"])
    assert draw_placement.main() == 0
    capsys.readouterr()
    (tmp_path / "pictures" / "defaults.svg").write_text("<svg/>", "utf-8")
    assert draw_placement.main() == 1
    assert capsys.readouterr().out == "pictures/defaults.svg is not up to date: run python tools/draw_placement.py\n"
