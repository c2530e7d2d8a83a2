"""Look at which audio rows each method gives up, to explain the tables of `bench/accuracy.py`.

    python bench/lost_rows.py --flops 50

runs the prefill of every clip in torch under each method, `constant` from layer 2 on, as `compare` does, and
keeps track of the audio rows that each row stands for. It prints, as medians over the clips, the longest
stretch of audio that one row alone stands for at the end, the longest one that no row stands for, and where
in the clip the middle of that lies. A word takes about half a second.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

from fastadasp.evaluation import read_clips
from fastadasp.export.calibration.clips import Calibration, audio_encoder, prompt_rows
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.model.families.family import load_model
from fastadasp.export.model.fit import resolve_for
from fastadasp.export.reference.reduction import Site, Span, reduced
from fastadasp.export.reference.spec_decoder import SpecDecoder
from fastadasp.export.studies.compare.grid import comparison_grid
from fastadasp.export.studies.compare.options import CompareOptions
from fastadasp.export.studies.reference_request import mean_request
from fastadasp.profiles.flops import ResolvedProfile
from fastadasp.profiles.methods import VARIANTS
from fastadasp.profiles.schedule import removed

ROOT = Path(__file__).parent.parent
Torch = Any  # a torch.Tensor


def shares(decoder: SpecDecoder, x: Torch, span: Span, resolved: ResolvedProfile) -> Torch:
    """What the audio rows left after the last layer stand for: their shares of each first one."""
    import torch

    origin, first = torch.eye(len(x)), span
    for layer, ratio in enumerate(resolved.ratios):
        x, scores = decoder.attend_with_scores(layer, x)
        if count := removed(span.length, ratio):
            site = Site(resolved, layer, span, count, x, scores.keys, scores.probabilities)
            both = reduced(site, torch.cat([x, origin], 1))
            span = replace(span, length=span.length - (len(x) - len(both)))
            x, origin = both[:, : x.shape[1]], both[:, x.shape[1] :]
        x = decoder.feed_forward(layer, x)
    columns = slice(first.start, first.start + first.length)
    return origin[span.start : span.start + span.length, columns]


def longest_run(marks: list[bool]) -> range:
    """Of marks that are set: its places."""
    runs = [list(run) for mark, run in groupby(range(len(marks)), marks.__getitem__) if mark]
    longest = max(runs, key=len, default=[])
    return range(longest[0], longest[-1] + 1) if longest else range(0)


def stretches(model: Path, manifest: Path, level: Fraction) -> Iterator[list[str]]:
    """Method, seconds that one row stands for, seconds that none does, where these lie in percent."""
    import torch

    spec, clips = load_model(source := Checkpoint(model)), read_clips(manifest, "asr").clips
    options = CompareOptions(
        methods=tuple(name for name, method in VARIANTS.items() if not method.is_of_caches),
        schedules=("constant",),
        levels=(level,),
        start_layer=2,
        seeds=1,
    )
    rows = comparison_grid(spec, options, mean_request(source, spec, clips, None))
    decoder = SpecDecoder(spec.decoder)
    with audio_encoder(spec, 1) as encoder, torch.no_grad():
        read = [Calibration(source, spec, encoder).read(clip) for clip in clips]
        for row in rows:
            resolved = resolve_for(row.cells[0].profiles[0], spec)
            alone, lost, places = [], [], []
            for clip in read:
                prompt, span = prompt_rows(decoder, spec, clip)
                share = shares(decoder, prompt, span, resolved)
                second = span.length / clip.seconds
                alone.append(int((share > 0).sum(1).max()) / second)
                gap = longest_run((share.sum(0) == 0).tolist())
                lost.append(len(gap) / second)
                if gap:
                    places.append(100 * (gap.start + gap.stop) / 2 / span.length)
            where = f"{median(places):.0f}" if places else ""
            yield [row.method.title, f"{median(alone):.2f}", f"{median(lost):.2f}", where]


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=ROOT / "demo/model")
    parser.add_argument("--manifest", type=Path, default=ROOT / "build/evaluation/human.jsonl")
    parser.add_argument("--flops", type=Fraction, default=Fraction(50), help="%% of the prefill to remove")
    options = parser.parse_args()
    print("| method | one row stands for, s | no row stands for, s | where, % |\n| --- | --- | --- | --- |")
    for row in stretches(options.model, options.manifest, options.flops / 100):
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
