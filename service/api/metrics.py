"""Counts of a server, in Prometheus's text format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The counts of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        names = ("method", "route", "status")
        self._requests = Counter(
            "clipreid_requests",
            "Requests; those refused have no route.",
            names,
            registry=self.registry,
        )
        self._seconds = Histogram(
            "clipreid_request_seconds",
            "Seconds from a request's headers to the end of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._waiting = Gauge(
            "clipreid_requests_in_progress",
            "Requests that wait or are answered.",
            registry=self.registry,
        )
        self._batches = Histogram(
            "clipreid_batch_size",
            "Pictures or sentences in one pass of a model.",
            ("input",),
            buckets=_SIZES,
            registry=self.registry,
        )

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request has been answered; `route` is its path as declared, '' where it was refused."""
        method = method if method in ("GET", "POST", "DELETE", "HEAD") else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def waiting(self, requests: int) -> None:
        """So many requests are being answered or wait."""
        self._waiting.set(requests)

    def batch(self, what: str, size: int) -> None:
        """A batch of 'reid', 'text' or 'sentence' goes through its model."""
        self._batches.labels(what).observe(size)

    def watch_entries(self, count: Callable[[], dict[str, int]]) -> None:
        """Show the entries of each space, counted whenever the metrics are read."""
        self.registry.register(_Entries(count))

    def text(self) -> bytes:
        """All counts."""
        return generate_latest(self.registry)


class _Entries:
    def __init__(self, count: Callable[[], dict[str, int]]) -> None:
        self._count = count

    def describe(self) -> list[Any]:
        return []  # nothing is counted before somebody asks

    def collect(self) -> Iterator[Any]:
        family = GaugeMetricFamily("clipreid_gallery_entries", "Entries of the gallery.", labels=["space"])
        for space, count in self._count().items():
            family.add_metric([space], count)
        yield family
