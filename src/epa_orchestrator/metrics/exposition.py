# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""Exposition: counts and figures in Prometheus' text format, made with its own library.

Importing this module imports prometheus_client, which takes 0.1 s and some MiB: only the exporter does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import Final, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import CollectorRegistry

from epa_orchestrator import __version__
from epa_orchestrator.metrics import catalogue
from epa_orchestrator.metrics.catalogue import CATALOGUE, Metric
from epa_orchestrator.metrics.counts import NO_ACTION, Counts, Histogram, Outcome, Rule
from epa_orchestrator.metrics.figures import Figure, Figures, View
from epa_orchestrator.metrics.isolation_figures import isolation_figures
from epa_orchestrator.protocol.requests import Request

CONTENT_TYPE: Final = choose_encoder("")[1]

#: The labels of a histogram, and its values.
_Histograms = dict[Metric, list[tuple[tuple[str, ...], Histogram]]]


_ACTIONS: Final[tuple[str, ...]] = tuple(
    [get_args(model.model_fields["action"].annotation)[0] for model in get_args(Request)]
)
#: 0 for each label set: Prometheus' increase() does not see the step with which a series begins.
_NO_REQUESTS: Final[dict[tuple[str, str], int]] = dict.fromkeys(
    product(_ACTIONS, get_args(Outcome)), 0
) | dict.fromkeys(product([NO_ACTION], ["refused", "denied", "failed"]), 0)
_NO_REFUSALS: Final[dict[str, int]] = {rule: 0 for rules in get_args(Rule) for rule in get_args(rules)}


class Exposition:
    """Makes the text of a scrape. `look` returns all that the daemon knows now."""

    def __init__(self, look: Callable[[], View], counts: Counts) -> None:
        self._look = look
        self._counts = counts
        self._figures = Figures()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """The text."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Family]:
        """Every metric of the catalogue with its samples; the library calls it."""
        by_metric: dict[Metric, list[Figure]] = {}
        view = self._look()
        figures = (*self._figures.of(view), *isolation_figures(view.audit), *_count_figures(self._counts))
        for figure in figures:
            by_metric.setdefault(figure.metric, []).append(figure)
        histograms = _histograms(self._counts)
        for metric in CATALOGUE:
            if metric.type == "histogram":
                yield _histogram_family(metric, histograms[metric])
            else:
                yield _family(metric, by_metric.get(metric, ()))


def _family(metric: Metric, found: Iterable[Figure]) -> Family:
    kind = CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for figure in found:
        family.add_metric(figure.labels, figure.value)
    return family


def _histogram_family(metric: Metric, found: Iterable[tuple[tuple[str, ...], Histogram]]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, histogram in found:
        family.add_metric(labels, histogram.buckets(), histogram.sum)
    return family


def _count_figures(counts: Counts) -> Iterator[Figure]:
    yield Figure(catalogue.BUILD_INFO, (__version__,), 1)
    # Copies, because the event loop may add a key meanwhile.
    for labels, count in sorted((_NO_REQUESTS | counts.requests.copy()).items()):
        yield Figure(catalogue.REQUESTS, labels, count)
    for rule, count in sorted((_NO_REFUSALS | counts.refusals.copy()).items()):
        yield Figure(catalogue.REFUSALS, (rule,), count)
    yield Figure(catalogue.FAILED_COMMITS, (), counts.failed_commits)
    yield Figure(catalogue.REFUSED_CONNECTIONS, (), counts.refused_connections)
    yield Figure(catalogue.TIMEOUTS, (), counts.timeouts)


def _histograms(counts: Counts) -> _Histograms:
    return {
        catalogue.REQUEST_SECONDS: [((action,), found) for action, found in sorted(counts.answers.copy().items())],
        catalogue.COMMIT_SECONDS: [((), counts.commits)],
        catalogue.COMMIT_REQUESTS: [((), counts.batches)],
    }
