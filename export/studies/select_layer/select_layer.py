"""The layer that a sparse profile merges at: the table of contents of `select-layer`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ....evaluation.clips.clip import Clip, ClipSet
from ....evaluation.options import Bootstrap
from ....evaluation.recorded import clip_list, intervals
from ....evaluation.results.selection import LayerFigures, SelectionProtocol
from ....evaluation.results.settings import Failure
from ....profiles.errors import AudioError, ProfileError, RequestError
from ....profiles.flops import ResolvedProfile
from ....runtime.environment import environment
from ...adapt import load_adapted
from ...calibration.clips import Calibration, audio_encoder, prompt_rows
from ...model.fit import profile_of
from ...reference.spec_decoder import SpecDecoder
from ..reference_request import ReferenceRequest, mean_request
from .candidates import Candidate, candidate_layers
from .entropy import LayerMoments, transfer_entropy
from .moments import Moments
from .options import SelectionOptions
from .outputs import layer_outputs
from .ranks import METHOD as RANKS
from .ranks import bootstrap_ranks, ranks
from .selection import LayerSelection

LIBRARIES = ("torch",)

Progress = Callable[[int, int], None]
"""Called before each clip and at the end: clips done, clips in all."""

Terms = tuple[Moments, Moments]
"""Of one layer: merged at the last one, and at this one."""


def select_layer(
    checkpoint: Path,
    clips: ClipSet,
    options: SelectionOptions,
    progress: Progress = lambda *_: None,
) -> LayerSelection:
    """Choose the layer of the smallest transfer entropy among those from which the FLOPs target can be met.

    Args:
        checkpoint: folder with config.json and safetensors.
        clips: what the entropies are estimated on; of 32 recordings or more they are worth trusting.
        options: the target and the protocol.
        progress: called before each clip.

    Raises:
        CheckpointError: it is not supported, or has no tokenizer.
        ProfileError: no layer meets the target.
        RequestError: there is no clip, or none that has entropies.
    """
    source, spec = load_adapted(checkpoint, options.lora)
    if not clips.clips:
        raise RequestError("no clip to estimate entropies on: name some in the clip list")
    reference = mean_request(source, spec, clips.clips, options.reference_seconds)
    candidates = candidate_layers(spec, options, reference)
    feasible = _feasible(candidates, options)
    with _threads(options.threads) as threads, audio_encoder(spec, options.threads) as encoder:
        machine = environment(threads, LIBRARIES)
        measured = _measure(Calibration(source, spec, encoder), clips, feasible, progress)
    rows = _figures(candidates, measured.moments, options)
    selected = next(row.layer for row in rows if row.rank == 1)
    return LayerSelection(
        spec.identity(checkpoint),
        clip_list(clips, clips.digest(), measured.clips, measured.recordings),
        _protocol(options, reference, measured.moments[selected], measured.seconds),
        intervals(Bootstrap(options.resamples, options.seed), RANKS),
        machine,
        rows,
        selected,
        profile_of(feasible[selected]),
        measured.failures,
    )


def _feasible(candidates: Sequence[Candidate], options: SelectionOptions) -> dict[int, ResolvedProfile]:
    """The profiles that meet the target, by layer."""
    if found := {c.layer: c.resolved for c in candidates if c.resolved is not None}:
        return found
    best = max(candidates, key=lambda candidate: candidate.most)
    remedy = "lower the target, or merge in many layers" if len(candidates) > 1 else "reduce at the input"
    raise ProfileError(
        f"a FLOPs reduction of {float(100 * options.flops_reduction):g} % is infeasible with one merge, "
        f"even at layer {best.layer} ({best.infeasible}): {remedy}"
    )


@dataclass(frozen=True)
class _Measured:
    """What the clips gave that have entropies at every layer."""

    moments: dict[int, LayerMoments]  # of their recordings, by layer
    clips: int
    recordings: int  # that these are of
    seconds: float  # of audio, in all
    failures: tuple[Failure, ...]  # the other clips


def _measure(
    calibration: Calibration,
    clips: ClipSet,
    feasible: Mapping[int, ResolvedProfile],
    progress: Progress,
) -> _Measured:
    """Moments of both terms for every layer and recording.

    Raises:
        RequestError: no clip has them.
    """
    decoder = SpecDecoder(calibration.model.decoder)
    found: dict[str, dict[int, Terms]] = {}  # by recording
    failures: list[Failure] = []
    seconds = 0.0
    for done, (clip, recording) in enumerate(zip(clips.clips, clips.recordings, strict=True)):
        progress(done, len(clips.clips))
        try:
            heard, terms = _clip_terms(calibration, decoder, clip, feasible)
        except (AudioError, RequestError) as error:
            failures.append(Failure(clip.id, clip.line, (), str(error)))
            continue
        seconds += heard
        known = found.get(recording)
        found[recording] = terms if known is None else _added(known, terms)
    progress(len(clips.clips), len(clips.clips))
    if not found:
        raise RequestError(
            f"none of {len(failures)} clips has entropies to estimate; the first: {failures[0].reason}"
        )
    moments = {
        layer: LayerMoments(*zip(*(terms[layer] for terms in found.values()), strict=True))
        for layer in feasible
    }
    return _Measured(moments, len(clips.clips) - len(failures), len(found), seconds, tuple(failures))


def _clip_terms(
    calibration: Calibration, decoder: SpecDecoder, clip: Clip, feasible: Mapping[int, ResolvedProfile]
) -> tuple[float, dict[int, Terms]]:
    """Seconds of audio, and both terms by layer.

    Raises:
        AudioError, RequestError: what keeps a clip from having them.
    """
    read = calibration.read(clip)
    asked = decoder.for_prompt(read.prompt.adapter)
    outputs = layer_outputs(asked, *prompt_rows(asked, calibration.model, read), feasible)
    return read.seconds, {
        layer: (_moments(output.at_last, clip), _moments(output.at_layer, clip))
        for layer, output in outputs.items()
    }


def _added(one: Mapping[int, Terms], other: Mapping[int, Terms]) -> dict[int, Terms]:
    """The terms of two clips of one recording."""
    return {layer: (one[layer][0] + terms[0], one[layer][1] + terms[1]) for layer, terms in other.items()}


def _moments(rows: Any, clip: Clip) -> Moments:
    """Of one clip, which must have an entropy of its own: a resample may hold no other."""
    moments = Moments.of(rows)
    if not np.median(moments.variance) > 0:
        raise AudioError(
            f"audio {clip.path}: its {len(rows)} audio tokens after the merge are all alike, which leaves "
            "no entropy to estimate; give a longer clip"
        )
    return moments


def _figures(
    candidates: Sequence[Candidate], moments: Mapping[int, LayerMoments], options: SelectionOptions
) -> tuple[LayerFigures, ...]:
    entropies = {layer: transfer_entropy(terms) for layer, terms in moments.items()}
    order = ranks(np.array([entropy.transfer_entropy for entropy in entropies.values()]))
    rank = dict(zip(moments, order.tolist(), strict=True))
    several = min(len(terms.at_last) for terms in moments.values()) > 1
    spreads = bootstrap_ranks(list(moments.values()), options.resamples, options.seed) if several else []
    spread = dict(zip(moments, spreads, strict=several))
    return tuple(
        LayerFigures(c.layer, float(c.most), infeasible=c.infeasible)
        if c.resolved is None
        else LayerFigures(
            c.layer,
            float(c.most),
            c.resolved.ratio,
            entropies[c.layer],
            rank[c.layer],
            spread.get(c.layer),
        )
        for c in candidates
    )


def _protocol(
    options: SelectionOptions, reference: ReferenceRequest, moments: LayerMoments, seconds: float
) -> SelectionProtocol:
    return SelectionProtocol(
        flops_reduction=options.flops_reduction,
        positions=options.positions,
        reference_audio_seconds=float(reference.audio_seconds),
        reference_text_rows=reference.text_rows,
        audio_seconds=seconds,
        audio_tokens_after_the_merge=sum(part.count for part in moments.at_last),
    )


@contextmanager
def _threads(wanted: int) -> Iterator[int]:
    """Run torch on so many threads; 0 leaves it as it is."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(wanted or before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
