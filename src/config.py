# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The charm's options and action parameters as checked, typed models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

import pydantic

from epa_orchestrator.allocation.settings import SettingsError, option_names, parse_settings
from snap_file import NAME

_RISKS: Final = ("stable", "candidate", "beta", "edge")
_WORD: Final = r"[A-Za-z0-9][A-Za-z0-9._-]*"
#: A store channel, [track/]risk[/branch] or a track alone; see snapcraft's documentation on channels.
_CHANNEL: Final = re.compile(rf"({_WORD}/)?({'|'.join(_RISKS)})(/{_WORD})?|{_WORD}")
_NAME: Final = "[a-z0-9][a-z0-9-]*"
_PLUG: Final = re.compile(rf"({_NAME}(?:_[a-z0-9]+)?):({_NAME})")


class Plug(NamedTuple):
    """A plug of another snap."""

    snap: str
    name: str

    def __str__(self) -> str:
        """As snapd writes it."""
        return f"{self.snap}:{self.name}"


def _plugs(text: object) -> tuple[Plug, ...]:
    words = [word.strip() for word in str(text).split(",") if word.strip()]
    matches = [_PLUG.fullmatch(word) for word in words]
    for word, match in zip(words, matches, strict=True):
        if match is None:
            raise ValueError(f"'{word[:60]}' is not snap:plug; separate such pairs by commas")
    return tuple(dict.fromkeys(Plug(match[1], match[2]) for match in matches if match))


def _channel(text: str) -> str:
    """The channel as snapd writes it: the default track is `latest`, the default risk is `stable`."""
    if text and not _CHANNEL.fullmatch(text):
        raise ValueError("give a channel such as latest/stable, or reset it to use the charm's snap")
    words = text.split("/")
    if words[0] in _RISKS:
        words = ["latest", *words]
    elif text and len(words) == 1:
        words.append("stable")
    return "/".join(words)


def _snap_name(name: str) -> str:
    if name != NAME:
        raise ValueError(f"the snap is always {NAME}: reset this option")
    return name


class CharmConfig(pydantic.BaseModel):
    """The charm's options. One that is not valid has its default here, and is named in `problems`."""

    model_config = pydantic.ConfigDict(extra="ignore", frozen=True)

    snap_name: Annotated[str, pydantic.AfterValidator(_snap_name)] = NAME
    snap_channel: Annotated[str, pydantic.AfterValidator(_channel)] = ""
    snap_revision: Annotated[int, pydantic.Field(ge=0)] = 0
    connect_plugs: Annotated[tuple[Plug, ...], pydantic.BeforeValidator(_plugs)] = ()
    require_isolated_cpus: bool = False
    #: The daemon's options whose value in Juju is not the default, by their names in the snap; None if they are not
    #: valid.
    snap_options: dict[str, Any] | None = {}
    #: What is wrong with each option that is not valid, with the remedy.
    problems: dict[str, str] = {}

    @classmethod
    def from_juju(cls, options: Mapping[str, Any], defaults: Mapping[str, Any]) -> CharmConfig:
        """Check Juju's options; `defaults` are those of charmcraft.yaml.

        ops' own `load_config` passes only declared fields, and only the daemon declares its options. It also refuses
        all options for one mistake.
        """
        own = {name.replace("-", "_"): value for name, value in options.items() if name in _OWN}
        problems: dict[str, str] = {}
        while (mistake := cls._mistake(own)) is not None:
            field, sentence = mistake
            problems[field.replace("_", "-")] = sentence
            own.pop(field)
            if field == "snap_channel":  # a revision means nothing without its channel
                own.pop("snap_revision", None)
        changed = {
            name: options[name] for name in option_names() if name in options and options[name] != defaults.get(name)
        }
        try:
            parse_settings(changed)
        except SettingsError as error:
            problems["daemon"] = str(error)
        snap_options = None if "daemon" in problems else changed
        return cls(**own, snap_options=snap_options, problems=problems)

    @classmethod
    def _mistake(cls, own: Mapping[str, Any]) -> tuple[str, str] | None:
        """The first option that is not valid, and what is wrong with it; None when all are valid."""
        try:
            cls.model_validate(own)
        except pydantic.ValidationError as error:
            return _first_mistake(error)
        return None

    @property
    def names_a_source(self) -> bool:
        """Whether the options say where the snap comes from; without that, an installed snap stays."""
        return not {"snap-channel", "snap-revision"} & self.problems.keys()

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> CharmConfig:
        if self.snap_revision and not self.snap_channel:
            raise ValueError(
                f"snap-revision={self.snap_revision} needs a snap-channel: set both, or reset snap-revision"
            )
        return self


_OWN: Final = ("snap-name", "snap-channel", "snap-revision", "connect-plugs", "require-isolated-cpus")


def _first_mistake(error: pydantic.ValidationError) -> tuple[str, str]:
    """The field of the first mistake, and a sentence with the option, its value and the remedy."""
    first = error.errors(include_url=False)[0]
    reason = str(first.get("ctx", {}).get("error", first["msg"]))
    if not first["loc"]:
        return "snap_revision", reason
    field = str(first["loc"][0])
    return field, f"{field.replace('_', '-')}={str(first['input'])[:60]!r} is not valid: {reason}"


_Service = Annotated[str, pydantic.Field(min_length=1, max_length=255)]
_Word = Annotated[str, pydantic.Field(max_length=255)]
_Number = Annotated[int, pydantic.Field(ge=0, le=1_000_000)]


class SettleParams(pydantic.BaseModel):
    """The parameters of the action settle-claims."""

    keep: Literal["ours", "older"]


class ReleaseParams(pydantic.BaseModel):
    """The parameters of the action release."""

    service: _Service
    confirm: bool = False


class ExplainParams(pydantic.BaseModel):
    """The parameters of the action explain: those of the command, with its own checks."""

    service: _Service
    count: _Number | None = None
    percent: _Number | None = None
    numa_node: _Number | None = None
    pool: _Word = "isolated"
    near: _Word = ""
    numa_policy: _Word = ""
    cpu_thread_policy: _Word = ""
    uncore_cache_alignment: _Word = ""
    make_room: bool = False

    def words(self) -> list[str]:
        """The words of the command."""
        given = {name: value for name, value in self.model_dump().items() if value not in ("", None)}
        service, count = given.pop("service"), given.pop("count", None)
        make_room = ["--make-room"] if given.pop("make_room") else []
        options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
        return ["explain", *options, *make_room, "--", service, *([] if count is None else [str(count)])]


class AuditParams(pydantic.BaseModel):
    """The parameters of the action audit-isolation."""

    measure: Annotated[float, pydantic.Field(ge=0, le=120)] = 0.0
    service: Annotated[str, pydantic.Field(max_length=255)] = ""

    @pydantic.field_validator("measure")
    @classmethod
    def _long_enough(cls, seconds: float) -> float:
        if 0 < seconds < 1:
            raise ValueError("give 0 for one reading, or from 1 to 120 seconds between two")
        return seconds


class HistoryParams(pydantic.BaseModel):
    """The parameters of the action history."""

    service: Annotated[str, pydantic.Field(max_length=255)] = ""
    limit: Annotated[int, pydantic.Field(ge=1, le=1000)] = 50
    since: _Word = ""

    def words(self) -> list[str]:
        """The words of the command."""
        since = [f"--since={self.since}"] if self.since else []
        return ["history", f"--limit={self.limit}", *since, *(["--", self.service] if self.service else [])]


class MachineParams(pydantic.BaseModel):
    """The parameters of the action show-machine."""

    format: Literal["text", "svg"] = "text"
