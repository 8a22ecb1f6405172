# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Settings: everything that the operator tunes, by its kebab-case name, checked as a whole.

The names and values are those of the table in docs/reference/options.md. A change of options is refused as a whole
(`parse_settings`); `usable_settings` is for a daemon that has to start with what is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator
from pydantic_core import ErrorDetails

from epa_orchestrator.allocation.option_values import (
    HYPERVISOR_CGROUPS,
    CpuList,
    CpuPool,
    Ids,
    OwnerCgroups,
    ReservedPages,
    as_written,
)
from epa_orchestrator.cpuset import EMPTY
from epa_orchestrator.documents import DuplicateKeyError, parse_document
from epa_orchestrator.errors import EpaError
from epa_orchestrator.files import UnsuitableFileError, read_regular_file
from epa_orchestrator.names import IsolatedCpusFrom, PreemptionPolicy
from epa_orchestrator.placement.policy import (
    CpuDistribution,
    CpuThreadPolicy,
    NumaAllocationStrategy,
    NumaPolicy,
    PlacementPolicy,
    PreferCoreType,
    UncoreCacheAlignment,
)

#: The most bytes of a settings file; all options together have a few KiB.
MAX_BYTES: Final = 1024 * 1024

#: A key that the charm keeps for itself in the snap's configuration. It is no option.
_CHARM_RECORD: Final = "charm"

#: What is not granted while an option is unusable, because the default could grant what the operator reserves.
_NOT_GRANTED: Final[Mapping[str, str]] = {
    "reserved-cpus": "no CPUs are granted",
    "cpu-pool": "pool general grants no CPUs",
    "isolated-cpus-from": "no CPUs of pool isolated are granted",
    "reserved-hugepages": "no hugepages are granted",
}

#: The most unusable options that are named.
_MOST_WARNINGS: Final = 20

#: More hugepages of a size than any NUMA node has.
_ALL_PAGES: Final = 2**63


class SettingsError(EpaError):
    """Settings that cannot be used; the message names option, value and remedy."""


class _ContradictionError(ValueError):
    """Two options contradict each other; `option` is the one without a rule that refuses requests."""

    def __init__(self, sentence: str, option: str) -> None:
        super().__init__(sentence)
        self.option = option


class Settings(BaseModel):
    """The options, each with its default; docs/reference/options.md explains them."""

    model_config = ConfigDict(
        alias_generator=lambda name: name.replace("_", "-"),
        extra="forbid",
        frozen=True,
        strict=True,
        arbitrary_types_allowed=True,
    )

    isolated_cpus_from: IsolatedCpusFrom = "isolcpus"
    nohz_full: Literal["same", "none"] = "same"
    cpu_pool: CpuPool = EMPTY
    reserved_cpus: CpuList = EMPTY
    numa_policy: NumaPolicy = "best-effort"
    numa_allocation_strategy: NumaAllocationStrategy = "packed"
    prefer_closest_numa_nodes: bool = True
    uncore_cache_alignment: UncoreCacheAlignment = "prefer"
    cpu_thread_policy: CpuThreadPolicy = "prefer"
    cpu_distribution: CpuDistribution = "packed"
    prefer_core_type: PreferCoreType = "none"
    numa_reclaim: Literal["if-needed", "always", "never"] = "if-needed"
    resize_policy: Literal["in-place", "reallocate"] = "in-place"
    default_allocation_percent: Annotated[int, Field(ge=1, le=100)] = 80
    large_system_threshold: Annotated[int, Field(ge=1, le=65536)] = 100
    large_system_reserved_cpus: Annotated[int, Field(ge=0, le=65536)] = 16
    default_preemption_policy: PreemptionPolicy = "legacy"
    reserved_hugepages: ReservedPages = ()
    max_services: Annotated[int, Field(ge=1, le=65536)] = 2048
    max_hugepage_records: Annotated[int, Field(ge=1, le=1048576)] = 8192
    allowed_uids: Ids = ()
    allowed_gids: Ids = ()
    owner_cgroups: OwnerCgroups = HYPERVISOR_CGROUPS
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0
    log_level: Literal["debug", "info", "warning", "error"] | None = None

    _unusable: Mapping[str, str] = PrivateAttr(default_factory=dict[str, str])

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if (both := self.placement.contradiction()) is not None:
            (rule, value), (preference, other_value) = ((field.replace("_", "-"), value) for field, value in both)
            sentence = f"{rule}={value} contradicts {preference}={other_value}: change one of the two"
            raise _ContradictionError(sentence, preference)
        return self

    def without(self, unusable: Mapping[str, str]) -> Settings:
        """These settings, which have safe values for the `unusable` options; each comes with the reason."""
        settings = self.model_copy()
        settings._unusable = unusable  # noqa: SLF001
        return settings

    @property
    def unusable(self) -> Mapping[str, str]:
        """The options that were given and cannot be used, each with a sentence that says why."""
        return self._unusable

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about the unusable options, and what the daemon does instead."""
        return self._sentences(self.unusable, "until this is corrected, ")

    def mistakes_against(self, in_use: Settings) -> tuple[str, ...]:
        """Sentences about the options that can be used in `in_use` and not here, for a daemon that keeps `in_use`."""
        options = [option for option in self.unusable if option not in in_use.unusable]
        return self._sentences(
            options,
            "until this is corrected and the daemon gets SIGHUP, the settings in use stay as they are; after a restart"
            " ",
        )

    def _sentences(self, unusable: Iterable[str], until: str) -> tuple[str, ...]:
        """A sentence for each reason why these options are unusable; `until` begins what the daemon does instead."""
        options_by_reason: dict[str, list[str]] = {}
        for option in unusable:
            options_by_reason.setdefault(self.unusable[option], []).append(option)
        found = [f"{reason}; {until}{self._instead(options)}" for reason, options in options_by_reason.items()]
        more = len(found) - _MOST_WARNINGS
        return (*found[:_MOST_WARNINGS], f"{more} more options cannot be used") if more > 0 else tuple(found)

    def _instead(self, options: list[str]) -> str:
        """What the daemon does instead of using these options."""
        if len(options) > 1:
            return "no CPUs and no hugepages are granted, and all options have safe values"
        option = options[0]
        if option in _NOT_GRANTED:
            return _NOT_GRANTED[option]
        if option not in option_names():
            return "it is ignored"
        value = self.value(option)
        return f"{option} is {'empty' if value in ((), None) else as_written(value)}"

    def value(self, option: str) -> object:
        """The value of an option by its kebab-case name."""
        return getattr(self, option.replace("-", "_"))

    def cgroups_of(self, service: str) -> tuple[str, ...]:
        """The control groups where the operator says that the processes of a service run: paths below the root."""
        return tuple([entry.cgroup for entry in self.owner_cgroups if entry.service == service])

    @cached_property
    def placement(self) -> PlacementPolicy:
        """The options that shape placement."""
        return PlacementPolicy(
            numa_policy=self.numa_policy,
            numa_allocation_strategy=self.numa_allocation_strategy,
            prefer_closest_numa_nodes=self.prefer_closest_numa_nodes,
            uncore_cache_alignment=self.uncore_cache_alignment,
            cpu_thread_policy=self.cpu_thread_policy,
            cpu_distribution=self.cpu_distribution,
            prefer_core_type=self.prefer_core_type,
        )

    def default_size(self, available: int) -> int:
        """How many CPUs `num_of_cores: 0` stands for when `available` are free or held already; at least 1."""
        if available <= self.large_system_threshold:
            return max(available * self.default_allocation_percent // 100, 1)
        return max(available - self.large_system_reserved_cpus, 1)

    def reserved_pages(self, node_id: int, size_kb: int) -> int:
        """How many hugepages of this size are never granted on this node: all, while the option is unusable."""
        return self._reserved_pages.get((node_id, size_kb), self._reserved_elsewhere)

    @cached_property
    def _reserved_elsewhere(self) -> int:
        """How many hugepages are reserved of each node and size that the option does not name."""
        return _ALL_PAGES if "reserved-hugepages" in self.unusable else 0

    @cached_property
    def _reserved_pages(self) -> dict[tuple[int, int], int]:
        """A get_memory_info needs each node and size, so searching all entries each time would be quadratic."""
        return {(entry.node_id, entry.size_kb): entry.pages for entry in self.reserved_hugepages}


def parse_settings(document: object) -> Settings:
    """Check a JSON object of options; null means the default.

    Raises SettingsError.
    """
    try:
        return Settings.model_validate(given_options(document))
    except ValidationError as error:
        raise SettingsError(next(mistakes(error))[1]) from None


def load_settings(path: str | Path | None) -> Settings:
    """Read the settings file; the defaults when `path` is None.

    Raises SettingsError.
    """
    if path is None:
        return Settings()
    document = read_options(path)
    try:
        return parse_settings(document)
    except SettingsError as error:
        raise SettingsError(f"settings file {path}: {error}") from None


def read_options(path: str | Path) -> dict[str, Any]:
    """The options in a settings file as they are, valid or not.

    Raises SettingsError.
    """
    try:
        document = parse_document(read_regular_file(path, MAX_BYTES, follow_link=True))
    except OSError as error:
        raise SettingsError(f"settings file {path} cannot be read: {error.strerror}") from None
    except UnsuitableFileError as error:
        raise SettingsError(f"settings file {path} cannot be read: {error}") from None
    except DuplicateKeyError as error:
        raise SettingsError(f"settings file {path}: {error}") from None
    except ValueError as error:
        raise SettingsError(f"settings file {path} is not JSON: {error}") from None
    try:
        return given_options(document)
    except SettingsError as error:
        raise SettingsError(f"settings file {path}: {error}") from None


def given_options(document: object) -> dict[str, Any]:
    """The options of a document that are set.

    Raises SettingsError.
    """
    if not isinstance(document, dict):
        raise SettingsError('settings must be one JSON object of options, such as {"cpu-pool": "2-5"}')
    options = cast("dict[str, Any]", document)
    return {
        _as_text(name): _as_text(value) if isinstance(value, str) else value
        for name, value in options.items()
        if value is not None and name != _CHARM_RECORD
    }


def _as_text(text: str) -> str:
    """The text with a "?" for each half of a surrogate pair, which JSON can hold and no text can."""
    return text.encode("utf-8", "replace").decode()


def mistakes(error: ValidationError) -> Iterator[tuple[str, str]]:
    """The options with mistakes, each with its first mistake in one sentence."""
    seen: set[str] = set()
    for mistake in error.errors(include_url=False, include_context=True):
        reason = mistake.get("ctx", {}).get("error")
        if isinstance(reason, _ContradictionError):
            yield reason.option, str(reason)
            return
        option = str(mistake["loc"][0])
        if option not in seen:
            seen.add(option)
            yield option, _sentence(option, mistake)


def _sentence(option: str, mistake: ErrorDetails) -> str:
    if mistake["type"] == "extra_forbidden":
        return f"there is no option '{option[:60]}'; the options are {', '.join(sorted(option_names()))}"
    context = mistake.get("ctx", {})
    if mistake["type"] == "literal_error":
        reason = f"set it to {context['expected']}"
    elif mistake["type"] == "value_error":
        reason = str(context["error"])
    else:
        reason = mistake["msg"][0].lower() + mistake["msg"][1:]
    return f"{option}={str(mistake['input'])[:60]!r} is not valid: {reason}"


def option_names() -> list[str]:
    """The names of all options."""
    return [str(field.alias) for field in Settings.model_fields.values()]
