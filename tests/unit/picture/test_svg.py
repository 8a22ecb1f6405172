# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The picture as SVG: well-formed, complete, without references to other files, for light and dark pages."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest

from epa_orchestrator.allocation.cpu_states import CpuState
from epa_orchestrator.cpuset import EMPTY, CpuSet
from epa_orchestrator.picture import svg
from epa_orchestrator.picture.model import Picture, build_picture
from epa_orchestrator.picture.widths import columns_of, pixels_of
from tests.machines import SYNTHETIC, made_up, synthetic
from tests.unit.picture.scenes import scene, sized
from tools.synthetic import Shape

SVG = "{http://www.w3.org/2000/svg}"


def read(picture: Picture, width: int = svg.WIDTH) -> ElementTree.Element:
    return ElementTree.fromstring(svg.draw(picture, width))


def cpus(root: ElementTree.Element) -> list[ElementTree.Element]:
    return [each for each in root.iter(f"{SVG}g") if each.get("class") == "cpu"]


def titles(root: ElementTree.Element) -> dict[str | None, str | None]:
    """By CPU id, what it says on hover."""
    return {cpu.get("data-cpu"): cpu.findtext(f"{SVG}title") for cpu in cpus(root)}


@pytest.mark.parametrize("name", SYNTHETIC)
def test_every_cpu_is_drawn_once_with_a_title(name: str) -> None:
    machine = synthetic(name)
    root = read(scene(machine))
    assert Counter(cpu.get("data-cpu") for cpu in cpus(root)) == Counter(map(str, machine.present | machine.online))
    for cpu, title in titles(root).items():
        assert title is not None
        assert title.startswith(f"CPU {cpu}: ")


def test_title_says_id_state_owner_and_place() -> None:
    found = titles(read(scene(made_up(Shape(2, 1, 2, 2, 2)))))
    assert found["0"] == "CPU 0: not isolated; core 0,8, L3 0, NUMA node 0, package 0"
    assert found["2"] == "CPU 2: claimed by ovs; core 2,10, L3 1, NUMA node 0, package 0"
    assert found["10"] == "CPU 10: withheld for ovs; core 2,10, L3 1, NUMA node 0, package 0"
    assert found["12"] == "CPU 12: unavailable, claimed by vm-10; not online"


def test_title_says_that_a_free_cpu_is_in_pool_general() -> None:
    found = titles(read(scene(made_up(Shape(2, 1, 2, 2, 2)), general="0")))
    assert found["0"] == "CPU 0: free in pool general; core 0,8, L3 0, NUMA node 0, package 0"


def test_title_names_the_type_of_a_hybrid_core() -> None:
    machine = synthetic("raptorlake")
    found = titles(read(build_picture(machine, {"free": machine.online}, [])))
    assert found["12"] == "CPU 12: free; core 12, L3 0, NUMA node 0, package 0, efficiency core"


@pytest.mark.parametrize("width", [240, 400, 800, 1200])
@pytest.mark.parametrize("count", [8, 48, 512])
def test_nothing_is_drawn_outside(count: int, width: int) -> None:
    root = read(scene(sized(count)), width)
    assert root.get("width") == str(width)
    height = float(root.get("height", 0))
    for right, bottom in corners(root):
        assert right <= width + 0.5
        assert bottom <= height


def corners(element: ElementTree.Element, x: float = 0, y: float = 0) -> Iterator[tuple[float, float]]:
    """The lower right corners of all rectangles, and of all texts as wide as they can be expected to be."""
    if element.tag == f"{SVG}defs":
        return
    if move := re.fullmatch(r"translate\((\d+) (\d+)\)", element.get("transform", "")):
        x, y = x + float(move[1]), y + float(move[2])
    left, top = x + float(element.get("x", 0)), y + float(element.get("y", 0))
    classes = (element.get("class") or "").split()
    if element.tag == f"{SVG}rect":
        yield left + float(element.get("width", 0)), top + float(element.get("height", 0))
    elif element.tag == f"{SVG}text" and not {"letter", "id"} & set(classes):
        size = 15 if "heading" in classes else 12
        yield left + pixels_of(element.text or "", size), top
    for child in element:
        yield from corners(child, x, y)


def test_a_wider_picture_is_lower() -> None:
    picture = scene(sized(512))
    heights = [float(read(picture, width).get("height", 0)) for width in (400, 800, 1200)]
    assert heights == sorted(heights, reverse=True)
    assert heights[0] > 2 * heights[2]


def test_it_refers_to_no_other_file_and_runs_nothing() -> None:
    text = svg.draw(scene(sized(48)))
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]
    assert set(re.findall(r"url\(([^)]*)\)", text)) == {"#hatch", "#dots"}
    for word in ("href", "<script", "<image", "<foreignObject", "@import", "@font-face", "<!"):
        assert word not in text


def test_it_follows_the_colours_of_the_page() -> None:
    text = svg.draw(scene(sized(8)))
    assert text.count("@media (prefers-color-scheme: dark) {") == 1


def test_states_differ_by_more_than_their_colour() -> None:
    found = {cpu.get("data-state"): cpu.get("data-mark") for cpu in cpus(read(scene(sized(48))))}
    assert found == {
        "not-isolated": "-",
        "reserved": "#",
        "claimed": "C",
        "withheld": "~",
        "free": ".",
        "unavailable": "C!",
        "offline": "x",
    }


def legend(root: ElementTree.Element) -> list[tuple[str | None, str | None]]:
    entries = [each for each in root.iter(f"{SVG}g") if each.get("class") == "entry"]
    found = [[each.text for each in entry.iter(f"{SVG}text")] for entry in entries]
    return [(mark, text) for mark, text in found]


def test_legend_names_the_services_and_only_states_that_occur() -> None:
    machine = made_up(Shape(1, 1, 1, 4))
    owners = [("nova", CpuSet([0, 1])), ("ovs", CpuSet([2]))]
    picture = build_picture(machine, {"claimed": CpuSet([0, 1, 2]), "free": CpuSet([3])}, owners)
    assert legend(read(picture)) == [(".", "free: 1"), ("A", "nova: 2"), ("B", "ovs: 1")]


@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize("name", ["instance-{:04x}-compute.example", "instance-{:08x}", "{:x}" + "n" * 60 + "{:x}"])
def test_two_services_never_have_the_same_text(name: str, width: int) -> None:
    machine = sized(512)
    owners = [(name.format(number, number), CpuSet([number])) for number in range(312)]
    root = read(build_picture(machine, {"claimed": CpuSet(range(312))}, owners), width)
    entries = [each for each in root.iter(f"{SVG}g") if each.get("class") == "entry"]
    texts = ["".join([each.text or "" for each in entry.iter(f"{SVG}text")][1:]) for entry in entries]
    assert len(set(texts)) == len(texts) == 312


def test_legend_tells_free_cpus_of_both_pools_apart() -> None:
    machine = made_up(Shape(1, 1, 1, 4))
    picture = build_picture(machine, {"free": CpuSet(range(4))}, [], general=CpuSet([0]))
    assert legend(read(picture)) == [(".", "free: 3"), (":", "free in pool general: 1")]


def test_legend_says_on_hover_what_is_withheld_for_a_service() -> None:
    states: dict[CpuState, CpuSet] = {"claimed": CpuSet([2]), "withheld": CpuSet([3])}
    picture = build_picture(sized(8), states, [("ovs", CpuSet([2]))], withheld={"ovs": CpuSet([3])})
    assert "<title>ovs: CPU 2; withheld for it: CPU 3</title>" in svg.draw(picture)


WIDE = (
    "W" * 40,
    "MMWW" * 20,
    "m" * 50,
    "\u0416" * 50,
    "\u00e9" * 60,
    "\u865a" * 40,
    "il" * 40,
    "L" * 255,
    "x",
    "%@" * 30,
)


@pytest.mark.parametrize("width", [240, 400, 800, 1200])
def test_no_name_reaches_the_next_column_or_the_edge(width: int) -> None:
    owners = [(name, CpuSet([number])) for number, name in enumerate(WIDE)]
    root = read(build_picture(sized(48), {"claimed": CpuSet(range(len(WIDE)))}, owners), width)
    found = [*entries(root)]
    assert len(found) == len(WIDE)
    for x, right in found:
        assert right <= min([other for other, _ in found if other > x], default=width - 8)


def entries(root: ElementTree.Element, x: float = 0) -> Iterator[tuple[float, float]]:
    """Where the entry of each service begins and ends."""
    if move := re.fullmatch(r"translate\((\d+) (\d+)\)", root.get("transform", "")):
        x += float(move[1])
    texts = [each for each in root.findall(f"{SVG}text") if each.get("class") == "service"]
    if texts:
        yield x, max([x + float(each.get("x", 0)) + pixels_of(each.text or "") for each in texts])
    for child in root:
        yield from entries(child, x)


@pytest.mark.parametrize(("mark", "is_narrow"), [(0, False), (51 + 12, False), (51 + 22 * 51 + 22, True)])
def test_a_mark_that_is_too_wide_is_drawn_narrower(mark: int, is_narrow: bool) -> None:
    owners = [("none", EMPTY)] * mark + [("own", CpuSet([0]))]
    root = read(build_picture(sized(8), {"claimed": CpuSet([0])}, owners))
    (letter,) = [each for each in cpus(root)[0].iter(f"{SVG}text") if "letter" in (each.get("class") or "")]
    assert (letter.get("textLength") is not None) == is_narrow, letter.text


@pytest.mark.parametrize("name", SYNTHETIC)
def test_labels_do_not_touch_what_is_below(name: str) -> None:
    """The tails of letters of 12 pixels reach 3 pixels below the line, and the border of a core 1 pixel above it."""
    groups = [each for each in read(scene(synthetic(name))).iter(f"{SVG}g") if has_label(each)]
    assert groups
    for group in groups:
        line = max([float(each.get("y", 0)) for each in group.findall(f"{SVG}text")])
        for part in group.findall(f"{SVG}g"):
            move = re.fullmatch(r"translate\((\d+) (\d+)\)", part.get("transform", ""))
            assert move is not None
            assert float(move[2]) >= line + 3 + 1 + 2


def has_label(group: ElementTree.Element) -> bool:
    """Whether this is a box of the machine with something in it."""
    return (
        any(each.get("class") == "label" for each in group.findall(f"{SVG}text")) and group.find(f"{SVG}g") is not None
    )


def test_legend_says_what_the_names_have_in_common() -> None:
    owners = [(f"instance-{number:04x}-compute.example", CpuSet([number])) for number in range(312)]
    root = read(build_picture(sized(512), {"claimed": CpuSet(range(312))}, owners), 400)
    assert "all services: instance-…-compute.example" in [each.text for each in root.iter(f"{SVG}text")]
    assert legend(root)[0xA0] == ("CH", "…00a0…: 1")


def test_legend_names_a_service_in_full_on_hover() -> None:
    name = "n" * 100
    text = svg.draw(build_picture(sized(8), {"claimed": CpuSet([2])}, [(name, CpuSet([2]))]))
    assert f"<title>{name}: CPU 2</title>" in text


def test_description_counts_cpus_in_words() -> None:
    machine = made_up(Shape(1, 1, 1, 2))
    owners = [("ceph-osd", CpuSet([0])), ("ovs", CpuSet([1, 2]))]
    root = read(build_picture(machine, {"claimed": CpuSet(range(3))}, owners))
    assert (root.findtext(f"{SVG}desc") or "").endswith("; ceph-osd: CPU 0; ovs: CPUs 1-2")


HOSTILE = ("</title><script>alert(1)</script>", "a&b\"'<>", "]]>", "x" * 255, "虚" * 255, "\x00\x1b\ufffe", "-->")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text(name: str) -> None:
    root = read(scene(sized(8), (name,)))
    assert {each.tag.removeprefix(SVG) for each in root.iter()} <= {
        *("svg", "title", "desc", "style", "defs", "pattern", "rect", "circle", "g", "text", "path")
    }
    assert svg.draw(scene(sized(8), (name,))).replace("\n", "").isprintable()


def test_a_name_is_on_hover_in_full() -> None:
    name = "n" * 100 + "<&>" + "m" * 100
    assert f"claimed by {name};" in str(titles(read(scene(sized(8), (name,))))["2"])


def test_remarks_stand_below_their_services() -> None:
    machine = made_up(Shape(1, 1, 1, 2))
    remarks = {"a": "asks for 1: " + ",".join(map(str, range(200)))}
    picture = build_picture(machine, {"claimed": machine.online}, [("a", machine.online)], (), remarks)
    lines = [each.text or "" for each in read(picture).iter(f"{SVG}text") if each.get("class") == "remark"]
    assert "".join(lines).replace(" ", "") == remarks["a"].replace(" ", "")
    assert len(lines) > 5


@pytest.mark.parametrize(
    ("text", "columns", "lines"),
    [
        ("one two three", 7, ["one two", "three"]),
        ("0-3,8,10-12", 6, ["0-3,8,", "10-12"]),
        ("abcdefghij", 5, ["ab…ij"]),
        ("", 5, []),
    ],
)
def test_texts_fold_at_blanks_and_commas(text: str, columns: int, lines: list[str]) -> None:
    assert [*svg.fold(text, columns, columns_of)] == lines


def test_drawing_takes_little_time() -> None:
    """CPU time for 512 CPUs and 200 services; about a tenth of this."""
    picture = scene(sized(512), tuple(f"vm-{number}" for number in range(200)))
    before = time.process_time()
    svg.draw(picture)
    assert time.process_time() - before < 0.3
