# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The picture on a terminal: small machines as expected by hand, and properties of all sizes and widths."""

from __future__ import annotations

import re
import time
from collections import Counter

import pytest

from epa_orchestrator.allocation.cpu_states import CpuState
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.picture import terminal
from epa_orchestrator.picture.model import Pages, Picture, build_picture
from tests.machines import SYNTHETIC, made_up, synthetic
from tests.unit.picture.scenes import drawn_cores, scene, sized
from tools.synthetic import Shape


def drawn(picture: Picture, columns: int = 80, *, plain: bool = False) -> str:
    return "\n".join(line.plain for line in terminal.draw(picture, columns, plain=plain))


def test_eight_cpus() -> None:
    """CPU 0 is not isolated, 1 is reserved, `ovs` has a core alone, and CPU 7 is offline."""
    assert (
        drawn(scene(sized(8), ("ovs", "vm-2")))
        == """\
8 CPUs: 2 claimed by 2 services, 1 free, 1 withheld, 1 reserved, 1 unavailable,
1 offline, 1 not isolated

┏ package 0, NUMA node 0, L3 0 ━━┓ ┌ not online ╌╌┐
┃   0  1   2  3   4   6          ┃ ╎   5   7      ╎
┃ [ -  #][ A  ~][ B][ .]         ┃ ╎ [B!][ x]     ╎
┗━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┛ └╌╌╌╌╌╌╌╌╌╌╌╌╌╌┘

. free 1   ~ withheld 1   # reserved 1   ! unavailable 1   x offline 1
- not isolated 1
A ovs 1 (~3)   B vm-2 2

hugepages  █ recorded  ▒ in use by others or reserved  · free
node 0   2M  ████▒▒▒▒▒▒▒▒▒▒▒····   512 recorded  1024 others   512 free  of 2048
node 0   1G  ···················     0 recorded     0 others     4 free  of    4"""
    )


def test_ascii_only() -> None:
    machine = made_up(Shape(2, 1, 1, 2))
    states: dict[CpuState, CpuSet] = {"claimed": CpuSet([2]), "free": CpuSet([0, 1, 3])}
    picture = build_picture(machine, states, [("käse", CpuSet([2]))], [Pages(1, 2048, 2, 1, 4)])
    assert (
        drawn(picture, plain=True)
        == """\
4 CPUs: 1 claimed by 1 service, 3 free

+ package 0, NUMA node 0, L3 0 --+ + package 1, NUMA node 1, L3 1 --+
|  0  1                          | |  2  3                          |
| [.][.]                         | | [A][.]                         |
+--------------------------------+ +--------------------------------+

. free 3
A k\\xe4se 1

hugepages  # recorded  x in use by others or reserved  . free
node 1   2M  #################xxxxxxx.......  2 recorded  1 others  1 free  of 4"""
    )


def test_no_l3_no_node_and_cores_of_one_thread() -> None:
    machine = made_up(Shape(1, 1, 1, 3, l3_scope="none"))
    picture = build_picture(machine, {"free": machine.online}, [])
    assert (
        drawn(picture)
        == """\
3 CPUs: 3 free

┏ package 0, NUMA node 0 ━━┓
┃  0  1  2                 ┃
┃ [.][.][.]                ┃
┗━━━━━━━━━━━━━━━━━━━━━━━━━━┛

. free 3"""
    )


def test_hybrid_cores_have_as_many_threads_as_they_have() -> None:
    machine = synthetic("raptorlake")
    assert "[ .  .][ .][ .]" in drawn(build_picture(machine, {"free": machine.online}, []), 120)


def test_large_machines_have_marks_only_and_their_cpus_in_the_borders() -> None:
    machine = made_up(Shape(2, 4, 4, 8, 2))
    text = drawn(build_picture(machine, {"free": machine.online}, []))
    assert "╭ L3 1 ┄" in text
    assert "╰ 8-15,264-271 ┄" in text
    assert "┊ .. .. .. .. .. .. .. .. ┊" in text


def test_marks_of_two_letters_leave_a_blank_between_threads() -> None:
    machine = made_up(Shape(2, 4, 4, 8, 2))
    owners = [(f"s{number:03}", CpuSet([number])) for number in range(100)]
    states: dict[CpuState, CpuSet] = {"claimed": CpuSet(range(100)), "free": machine.online - CpuSet(range(100))}
    text = drawn(build_picture(machine, states, owners), 120)
    assert "AB.  AC.  AD.  AE. " in text
    assert "Aw s099 1" in text


SIZES = [8, 48, 512, 4096]
COLUMNS = [60, 80, 120, 200]


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("cpus", SIZES)
def test_no_line_is_wider_than_asked_for(cpus: int, columns: int) -> None:
    lines = terminal.draw(scene(sized(cpus)), columns)
    assert max(line.cell_len for line in lines) <= columns
    assert not any(line.plain.endswith(" ") for line in lines)


@pytest.mark.parametrize("name", SYNTHETIC)
def test_no_line_is_wider_on_any_kind_of_machine(name: str) -> None:
    for columns in (20, 80, 120):
        assert max(line.cell_len for line in terminal.draw(scene(synthetic(name)), columns)) <= columns


def marks(picture: Picture) -> Counter[str]:
    """The marks inside of the boxes; the labels and the ids are left out."""
    text = drawn(picture, 80).partition("\n\n")[2].partition("\n\n")[0]
    rows = [line for line in text.splitlines() if not re.search(r"[┏┌╭┗└╰]", line) or "[" in line]
    return Counter("".join(re.findall(r"[A-Za-z.~#!-]", "".join(rows))))


@pytest.mark.parametrize("cpus", [512, 4096])
def test_every_cpu_is_drawn_once(cpus: int) -> None:
    machine = sized(cpus)
    picture = build_picture(machine, {"free": machine.online}, [])
    assert marks(picture) == {".": cpus}


def test_every_id_is_drawn_once_on_a_small_machine() -> None:
    machine = sized(48)
    text = drawn(build_picture(machine, {"free": machine.online}, []), 80)
    ids = re.findall(r"\d+", "".join(re.findall(r"┊ +\d[\d ]*┊", text)))
    assert sorted(map(int, ids)) == [*range(48)]


@pytest.mark.parametrize("cpus", [48, 512])
def test_every_state_has_its_own_mark_and_is_in_the_legend(cpus: int) -> None:
    picture = scene(sized(cpus))
    shown = {cpu.state for core in drawn_cores(picture.groups) for cpu in core.cpus}
    assert len(shown) == 7
    text = drawn(picture)
    for words in ("  . free", "~ withheld 1", "# reserved 1", "! unavailable 1", "x offline 1", "- not isolated 1"):
        assert words.strip() in text
    assert {".", "~", "#", "!", "x", "-"} <= set(marks(picture)) | set(text)


def test_legend_has_no_states_without_cpus() -> None:
    machine = sized(8)
    text = drawn(build_picture(machine, {"free": machine.online}, []))
    assert text.splitlines()[-1] == ". free 8"


def test_colours_are_those_of_the_services() -> None:
    machine = made_up(Shape(1, 1, 1, 2))
    picture = build_picture(machine, {"claimed": machine.online}, [("a", CpuSet([0])), ("b", CpuSet([1]))])
    styles = [span.style for line in terminal.draw(picture, 80) for span in line.spans if "bold" in str(span.style)]
    assert [str(style) for style in styles] == ["bold #000000 on #e69f00", "bold #000000 on #56b4e9"] * 2


HOSTILE = ("\x1b[31mred\x07", "[bold]x[/]", "a" * 255, "虚" * 255, "\u202eevil", "\N{COMBINING ACUTE ACCENT}" * 60)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_neither_act_nor_break_lines(name: str) -> None:
    lines = terminal.draw(scene(sized(8), (name,)), 80)
    for line in lines:
        assert line.plain.isprintable()
        assert line.cell_len <= 80


@pytest.mark.parametrize(("cpus", "seconds"), [(512, 0.3), (4096, 1.5)])
def test_drawing_takes_little_time(cpus: int, seconds: float) -> None:
    """CPU time of building and drawing, about a tenth of this."""
    machine = sized(cpus)
    names = tuple(f"vm-{number}" for number in range(200))
    before = time.process_time()
    terminal.draw(scene(machine, names), 120)
    assert time.process_time() - before < seconds


def on_screen(picture: Picture, columns: int, most: int) -> list[str]:
    return [line.plain for line in terminal.draw_on_screen(picture, columns, most)]


def test_a_drawing_that_fits_is_as_detailed_as_elsewhere() -> None:
    picture = scene(sized(8))
    assert "\n".join(on_screen(picture, 80, 23)) == drawn(picture)


def test_48_cpus_are_whole_on_a_screen_of_24_lines() -> None:
    lines = on_screen(scene(sized(48), ("ovs-dpdk", "vm-a", "vm-b")), 80, 23)
    text = "\n".join(lines)
    assert len(lines) <= 23
    assert "more lines" not in text
    assert "A ovs-dpdk 1" in text
    assert "node 0   1G" in text
    assert text.count("┗") == 2
    assert "L3" not in text


def test_a_machine_that_does_not_fit_shows_its_legend_first() -> None:
    lines = on_screen(scene(sized(512)), 80, 23)
    assert len(lines) == 23
    assert lines[0].startswith("512 CPUs: ")
    legend = lines.index("A ovs 1 (~258)   B vm-2 2         C vm-10 2")
    assert legend < next(number for number, line in enumerate(lines) if line.startswith("┏"))
    assert re.fullmatch(r"\(\d+ more lines\)", lines[-1])


def test_the_number_of_missing_lines_is_true() -> None:
    picture = scene(sized(512))
    missing = int(re.findall(r"\d+", on_screen(picture, 80, 23)[-1])[0])
    assert "more lines" not in on_screen(picture, 80, 22 + missing)[-1]
    assert on_screen(picture, 80, 22 + missing - 1)[-1] == "(2 more lines)"


@pytest.mark.parametrize("most", [1, 5, 10, 23, 40, 60])
@pytest.mark.parametrize("columns", [40, 80, 120, 200])
@pytest.mark.parametrize("cpus", [8, 48, 512])
def test_a_screen_is_never_exceeded(cpus: int, columns: int, most: int) -> None:
    lines = terminal.draw_on_screen(scene(sized(cpus)), columns, most)
    assert len(lines) <= most
    assert max(line.cell_len for line in lines) <= columns


def test_drawing_on_a_screen_takes_little_time() -> None:
    picture = scene(sized(4096), tuple(f"vm-{number}" for number in range(200)))
    before = time.process_time()
    terminal.draw_on_screen(picture, 80, 23)
    assert time.process_time() - before < 3
