# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Examples of options in the documentation name options that there are, with values that are accepted."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import pytest
import yaml

from config import CharmConfig
from epa_orchestrator.allocation.settings import SettingsError, option_names, parse_settings
from epa_orchestrator.cpuset import CpuSet
from epa_orchestrator.isolation.housekeeping import outcomes
from epa_orchestrator.isolation.kernel_line import KernelLine

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
APPLICATION: Final = "epa-orchestrator"
OPTIONS: Final[dict[str, dict[str, Any]]] = yaml.safe_load((ROOT / "charmcraft.yaml").read_text(encoding="utf-8"))[
    "config"
]["options"]
#: Commands whose arguments are the application or the snap, then options.
COMMAND: Final = re.compile(r"\b(juju config|snap set|snap get|snap unset)((?:[ \t]+[^\s`#]+)+)")
BLOCK: Final = re.compile(r"^( *)```yaml\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
#: What Sunbeam reads of a manifest (`core/manifest.py` of canonical/snap-openstack), as far as examples use it.
MANIFEST: Final = {
    "": {"core", "features", "storage"},
    "core": {"config", "software"},
    "software": {"juju", "charms", "terraform"},
    "charm": {"channel", "revision", "config"},
}


class Example(NamedTuple):
    """Options in the documentation: those of one command, one block or one word."""

    where: str
    #: The value of each option as text; None if none is given.
    options: dict[str, str | None]
    #: Whether only the snap has them.
    of_snap: bool = False

    def mistake(self) -> str:
        """What is wrong with the options; empty if nothing is."""
        known = set(option_names()) if self.of_snap else set(OPTIONS)
        if unknown := self.options.keys() - known:
            return f"there is no option {', '.join(sorted(unknown))}"
        given = {name: value for name, value in self.options.items() if value is not None}
        return _mistake_of_snap(given) if self.of_snap else _mistake_of_charm(given)


def _mistake_of_snap(given: Mapping[str, str]) -> str:
    try:
        parse_settings({name: _as_json(value) for name, value in given.items()})
    except SettingsError as error:
        return str(error)
    return ""


def _as_json(value: str) -> Any:
    """A value as snapd reads it: JSON, or else text."""
    try:
        return json.loads(value)
    except ValueError:
        return value


def _mistake_of_charm(given: Mapping[str, str]) -> str:
    defaults = {name: each["default"] for name, each in OPTIONS.items()}
    values: dict[str, Any] = {}
    for name, text in given.items():
        kind = OPTIONS[name]["type"]
        if kind == "string":
            values[name] = text
        elif isinstance(value := _as_json(text), bool if kind == "boolean" else int):
            values[name] = value
        else:
            return f"{name}={text} is no {kind}"
    if "snap-revision" in values:  # as if the channel had been set before
        values = {"snap-channel": "latest/stable", **values}
    return "; ".join(CharmConfig.from_juju(defaults | values, defaults).problems.values())


def examples(where: str, text: str) -> Iterator[Example]:
    """The examples in a page."""
    text = re.sub(r"(`[^`\n]+)\n *([^`\n]+`)", r"\1 \2", text)
    for command, arguments in COMMAND.findall(text):
        words = shlex.split(arguments.replace("…", ""))
        if "-m" in words:
            del words[words.index("-m") : words.index("-m") + 2]
        if words[:1] == [APPLICATION]:
            yield Example(where, dict(_options_of(words[1:])), command != "juju config")
    for word in re.findall(r"`([a-z]+(?:-[a-z]+)+=[^`\s…]+)`", text):
        name, _, value = word.partition("=")
        if name in OPTIONS and not value.isupper():
            yield Example(where, {name: value})
    for document in documents(text):
        yield from (Example(where, options) for options in _configs(document))


def _options_of(words: list[str]) -> Iterator[tuple[str, str | None]]:
    for before, word in zip(["", *words], words, strict=False):
        if before == "--reset":
            yield from ((name, None) for name in word.split(","))
        elif not word.startswith("-"):
            name, sign, value = word.partition("=")
            yield name, value if sign else None


def documents(text: str) -> list[dict[str, Any]]:
    """The YAML blocks of a page."""
    blocks = [re.sub(f"^{indent}", "", block, flags=re.MULTILINE) for indent, block in BLOCK.findall(text)]
    return [document for block in blocks if isinstance(document := yaml.safe_load(block), dict)]


def _configs(document: Mapping[str, Any]) -> Iterator[dict[str, str | None]]:
    """The options of the application in a manifest, a bundle or a file for `juju config --file`."""
    for key, value in document.items():
        if not isinstance(value, dict):
            continue
        inner = cast("dict[str, Any]", value)
        if key == APPLICATION:
            options = inner.get("config", inner.get("options", inner))
            yield {name: _as_written(each) for name, each in options.items()}
        else:
            yield from _configs(inner)


def _as_written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


FOUND: Final = [
    example
    for page in PAGES
    for example in examples(str(page.relative_to(ROOT)), page.read_text(encoding="utf-8"))
    if example.options
]


@pytest.mark.parametrize("example", FOUND, ids=lambda each: f"{each.where}: {' '.join(each.options)}"[:80])
def test_example_is_accepted(example: Example) -> None:
    assert example.mistake() == ""


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("juju config epa-orchestrator reserved-cpus=4-5", ""),
        ("juju config -m clouds epa-orchestrator reserved-cpus=x", "reserved-cpus='x' is not valid"),
        ("`juju config\n  epa-orchestrator numa-polcy=none`", "there is no option numa-polcy"),
        ("juju config epa-orchestrator --reset snap-channel,nothing", "there is no option nothing"),
        ("juju config epa-orchestrator metrics-port=on", "metrics-port=on is no int"),
        ("juju config epa-orchestrator snap-revision=41", ""),
        ("sudo snap set epa-orchestrator metrics-port=9795", ""),
        ("sudo snap set epa-orchestrator snap-channel=edge", "there is no option snap-channel"),
        ("with `numa-policy=strict`", "numa-policy='strict' is not valid"),
        (
            "```yaml\napplications:\n  epa-orchestrator:\n    options: {cpu-poll: 1-2}\n```",
            "there is no option cpu-poll",
        ),
        ("   ```yaml\n   epa-orchestrator:\n     numa-policy: none\n   ```", ""),
    ],
)
def test_mistakes_are_found(text: str, mistake: str) -> None:
    (example,) = examples("page", text)
    assert example.mistake().startswith(mistake)
    assert bool(example.mistake()) == bool(mistake)


def test_other_commands_and_options_of_others_are_left_alone() -> None:
    assert list(examples("page", "juju config nova cpu=1\n`numa-node=1` `reserved-cpus=LIST` `reserved-cpus=…`")) == []


def manifests() -> list[tuple[str, dict[str, Any]]]:
    found = [(page, document) for page in PAGES for document in documents(page.read_text(encoding="utf-8"))]
    return [(str(page.relative_to(ROOT)), document) for page, document in found if "core" in document]


def test_manifests_have_the_form_that_sunbeam_reads() -> None:
    shown = manifests()
    assert "docs/how-to/deploy-with-sunbeam.md" in [page for page, _ in shown]
    for page, manifest in shown:
        software = manifest["core"].get("software", {})
        charms = software.get("charms", {})
        assert manifest.keys() <= MANIFEST[""], page
        assert manifest["core"].keys() <= MANIFEST["core"], page
        assert software.keys() <= MANIFEST["software"], page
        for charm in charms.values():
            assert charm.keys() <= MANIFEST["charm"], page
            assert re.fullmatch(r"[\w.]+/(stable|candidate|beta|edge)", charm.get("channel", "latest/edge")), page
            assert isinstance(charm.get("revision", 1), int), page


def test_kernel_takes_the_parameters_of_the_maas_tag() -> None:
    page = (ROOT / "docs" / "how-to" / "deploy-on-maas.md").read_text(encoding="utf-8")
    script = "\n".join(re.findall(r"^ *((?:CPUS|OPTIONS)=.*)$", page, re.MULTILINE))
    done = subprocess.run(["sh", "-c", f'{script}\necho "$OPTIONS"'], capture_output=True, text=True, check=True)
    line, cpus = KernelLine(done.stdout), CpuSet(range(48))
    system = CpuSet.parse("0,12,24,36")
    assert [(each.named, each.mistake) for each in outcomes(line, cpus, cpus)] == [(cpus - system, "")] * 2
    assert [CpuSet.parse(text) for text in line.values("irqaffinity")] == [system]
    assert [CpuSet.parse(text) for text in line.values("rcu_nocbs")] == [cpus - system]
    assert line.values("hugepages") == ("0:16,1:16",)
