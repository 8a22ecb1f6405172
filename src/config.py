# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""The charm's options and action parameters as checked, typed models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, NamedTuple

import pydantic

from epa_orchestrator.allocation.settings import SettingsError, option_names, parse_settings

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


class CharmConfig(pydantic.BaseModel):
    """The charm's options; those that it only passes on to the daemon are in `snap_options`."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)

    snap_channel: Annotated[str, pydantic.AfterValidator(_channel)] = ""
    snap_revision: Annotated[int, pydantic.Field(ge=0)] = 0
    connect_plugs: Annotated[tuple[Plug, ...], pydantic.BeforeValidator(_plugs)] = ()
    require_isolated_cpus: bool = False

    @classmethod
    def from_juju(cls, options: Mapping[str, Any]) -> CharmConfig:
        """Check Juju's options.

        ops' own `load_config` passes only declared fields, and only the daemon declares its options.

        Raises pydantic.ValidationError.
        """
        return cls.model_validate({name.replace("-", "_"): value for name, value in options.items()})

    @property
    def snap_options(self) -> dict[str, Any]:
        """The daemon's options by their names in the snap."""
        given = {name.replace("_", "-"): value for name, value in (self.__pydantic_extra__ or {}).items()}
        return {name: given[name] for name in option_names() if name in given}

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> CharmConfig:
        if self.snap_revision and not self.snap_channel:
            raise ValueError(
                f"snap-revision={self.snap_revision} needs a snap-channel: set both, or reset snap-revision"
            )
        try:
            parse_settings(self.snap_options)
        except SettingsError as error:
            raise ValueError(str(error)) from None
        return self


def describe_error(error: pydantic.ValidationError) -> str:
    """The first mistake, in one sentence with the option, its value and the remedy."""
    first = error.errors(include_url=False)[0]
    reason = str(first.get("ctx", {}).get("error", first["msg"]))
    if not first["loc"]:
        return reason
    return f"{str(first['loc'][0]).replace('_', '-')}={str(first['input'])[:60]!r} is not valid: {reason}"


class ReleaseParams(pydantic.BaseModel):
    """The parameters of the action release."""

    service: Annotated[str, pydantic.Field(min_length=1, max_length=255)]
    confirm: bool = False
