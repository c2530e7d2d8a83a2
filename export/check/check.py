"""Check an artifact: every graph on every backend against the reference, on every input."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...profiles.errors import RequestError
from ...runtime.artifact.artifact import Artifact
from .backends import CheckedBackend
from .cases import BRANCHES, Case, Feed, clip_cases, decode_feeds, prefill_feed, random_cases
from .comparison import Finding, SessionRunner, compare, run
from .graphs import DECODE, ENCODER, GraphName, prefill_of, signature_of
from .localisation import first_difference
from .options import CheckOptions
from .reference import load_for
from .saved import save_results
from .tolerance import Tolerance, tolerance_of
from .torch_backend import TorchBackend

Progress = Callable[[str, int, int], None]
"""Told which graph ran, how many runs are done, and how many there are in all."""
DECODED = 0, -1
"""Places among the cases whose prefix is decoded: of each profile, a long one and a short one."""


@dataclass(frozen=True)
class Input:
    """One run of a graph; the decode steps of a case are several of one case and profile."""

    case: str
    profile: str | None  # whose prompt or prefix it is
    feed: Feed


@dataclass(frozen=True)
class Verdict:
    """One graph on one backend and one input."""

    graph: GraphName
    backend: str
    case: str
    profile: str | None
    finding: Finding  # the worst, where the input takes several runs
    tolerance: Tolerance
    where: str | None = None  # it first differs; told once for each graph and backend


def check_artifact(
    artifact: Artifact, options: CheckOptions, progress: Progress = lambda *_: None
) -> list[Verdict]:
    """Compare and, where something differs, find the place.

    Args:
        artifact: what is checked.
        options: profiles, clips, backends, reference.
        progress: called after each run of a graph.

    Raises:
        ArtifactError, CheckpointError: there is no reference for it.
        RequestError, EngineError: a profile or backend that is not there.
        AudioError: a clip that the model cannot take.
    """
    profiles = _known_profiles(artifact, options.profiles)
    backends = [CheckedBackend(name, artifact, options.chosen) for name in options.backends]
    reference = TorchBackend(load_for(artifact, options.checkpoint), artifact.manifest)
    cases = clip_cases(artifact, options.clips, reference.session(ENCODER))
    cases += random_cases(artifact.manifest, reference.embedding_scale)
    runs = (1 + len(backends)) * _num_feeds(cases, len(profiles))
    checker = _Checker(reference, backends, options.save, lambda graph, done: progress(graph, done, runs))
    checker.encoder(cases)
    checker.decode([pair for profile in profiles for pair in checker.prefill(profile, cases)])
    return checker.verdicts


def _num_feeds(cases: Sequence[Case], profiles: int) -> int:
    """Inputs of all graphs."""
    windows = sum(len(case.windows) for case in cases)
    return windows + profiles * (len(cases) + len(DECODED) * len(BRANCHES))


def _known_profiles(artifact: Artifact, names: Sequence[str]) -> tuple[str, ...]:
    known = artifact.manifest.profiles
    if unknown := [name for name in names if name not in known]:
        raise RequestError(
            f"profile {', '.join(unknown)} is not in artifact {artifact.folder}; it has: {', '.join(known)}"
        )
    return tuple(names or known)


class _Checker:
    def __init__(
        self,
        reference: TorchBackend,
        backends: Sequence[CheckedBackend],
        save: Path | None,
        count: Callable[[str, int], None],
    ) -> None:
        self.verdicts: list[Verdict] = []
        self._count, self._done = count, 0
        self._reference, self._backends, self._manifest = reference, backends, reference.manifest
        self._save = save

    def encoder(self, cases: Sequence[Case]) -> None:
        """Every window of every input."""
        self._check(ENCODER, [Input(case.label, None, window) for case in cases for window in case.windows])

    def prefill(self, profile: str, cases: Sequence[Case]) -> Iterator[Input]:
        """Every input; yields the decode steps that follow on some, over the prefix of the reference."""
        vocab = self._manifest.decoder.dims.vocab_size
        taken = self._manifest.profiles[profile].takes_row_weights
        inputs = [Input(case.label, profile, prefill_feed(case, vocab, taken)) for case in cases]
        expected = self._check(prefill_of(profile), inputs)
        for i in DECODED:
            for feed in decode_feeds(self._manifest, self._reference.session(DECODE), expected[i]):
                yield Input(cases[i].label, profile, feed)

    def decode(self, inputs: Sequence[Input]) -> None:
        """A few steps over each prefix."""
        self._check(DECODE, inputs)

    def _check(self, graph: GraphName, inputs: Sequence[Input]) -> list[Mapping[str, Any]]:
        """Run and compare one graph; return the outputs of the reference."""
        signature, feeds = signature_of(graph, self._manifest), [each.feed for each in inputs]
        ran = partial(self._ran, str(graph))
        runners = [SessionRunner(b.name, b.session(graph), signature, ran) for b in self._opened]
        results = run(runners, feeds)
        expected: list[Mapping[str, Any]] = [dict(result.items()) for result in results[0][1]]
        if self._save:
            shared = graph == DECODE and any(backend.shares_steps for backend in self._backends)
            dims = self._manifest.decoder.dims if shared else None
            save_results(self._save, str(graph), feeds, results, dims)
        tolerances = [self._tolerance(graph, b).for_outputs_of(expected) for b in self._backends]
        found = zip(self._backends, tolerances, compare(results, tolerances), strict=True)
        for backend, tolerance, findings in found:
            self._judge(graph, backend, tolerance, inputs, findings)
        return expected

    def _tolerance(self, graph: GraphName, backend: CheckedBackend) -> Tolerance:
        reduces = graph.profile is not None and bool(self._manifest.profiles[graph.profile].places)
        return tolerance_of(backend.precision(graph), reduces)

    def _ran(self, graph: str) -> None:
        self._done += 1
        self._count(graph, self._done)

    @property
    def _opened(self) -> list[TorchBackend | CheckedBackend]:
        return [self._reference, *self._backends]

    def _judge(
        self,
        graph: GraphName,
        backend: CheckedBackend,
        tolerance: Tolerance,
        inputs: Sequence[Input],
        findings: Sequence[Finding],
    ) -> None:
        """One verdict for each case and profile; the first that differs says where."""
        located = False
        for _, group in itertools.groupby(findings, key=lambda finding: _case_of(inputs[finding.feed])):
            worst = min(group, key=_agreement)
            each, where = inputs[worst.feed], None
            if not worst.passed and not located:
                where = first_difference(graph, self._reference, backend, each.feed, tolerance)
                located = True
            verdict = Verdict(graph, backend.name, each.case, each.profile, worst, tolerance, where)
            self.verdicts.append(verdict)


def _case_of(each: Input) -> tuple[str, str | None]:
    return each.case, each.profile


def _agreement(finding: Finding) -> tuple[bool, float]:
    """Smallest for what is worst: what differs before what agrees, then the largest error."""
    return finding.passed, -(finding.error or 0.0)
