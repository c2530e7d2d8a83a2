"""What Prometheus reads: a registry of this server alone, with labels of which there are few."""

from __future__ import annotations

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
STEP_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


class Metrics:
    """Counters, gauges and histograms; a route is its template, a profile one of the artifact."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = self._counter(
            "requests", "Requests answered, by route and status.", "route", "status"
        )
        self.request_seconds = self._seconds("request_seconds", "From headers to the last byte.", "route")
        self.queue = self._gauge("queue_requests", "Requests that wait for a worker.", "profile")
        self.running = self._gauge("running_requests", "Requests that workers have.", "profile")
        self.queue_seconds = self._seconds("queue_seconds", "What requests waited for a worker.", "profile")
        self.first_text_seconds = self._seconds(
            "first_text_seconds", "From the end of the upload to the first text, or to all of it.", "profile"
        )
        self.step_seconds = Histogram(
            "fastadasp_step_seconds",
            "Mean decode step of a request.",
            ["profile"],
            registry=self._registry,
            buckets=STEP_SECONDS,
        )
        self.audio_seconds = self._counter("audio_seconds", "Seconds of audio answered.", "profile")
        self.output_tokens = self._counter("output_tokens", "Tokens of the answers.", "profile")
        self.cancelled = self._counter("cancelled", "Requests whose client has gone.", "profile")
        self.failed = self._counter("failed", "Requests without an answer, by kind of error.", "error")
        self.workers = self._gauge("workers", "Worker processes that are ready.")
        self.deaths = self._counter("worker_deaths", "Worker processes that have died or were ended.")
        self.hangs = self._counter("worker_hangs", "Those of them that were ended because they hung.")
        self.retries = self._counter("request_retries", "Requests sent again, as their replica had died.")

    def text(self) -> bytes:
        """All of it in the format that Prometheus reads."""
        return generate_latest(self._registry)

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(f"fastadasp_{name}", words, labels, registry=self._registry)

    def _gauge(self, name: str, words: str, *labels: str) -> Gauge:
        return Gauge(f"fastadasp_{name}", words, labels, registry=self._registry)

    def _seconds(self, name: str, words: str, *labels: str) -> Histogram:
        return Histogram(f"fastadasp_{name}", words, labels, registry=self._registry, buckets=SECONDS)
