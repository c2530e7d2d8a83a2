"""CIDEr, SPICE and SPIDEr of captions, by pycocoevalcap; a metric that cannot be computed here says why.

All three are means over the clips. CIDEr weighs n-grams by how many of the measured clips have them in their
references; a bootstrap keeps these weights.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from .metric import SCORE, Measure, Metric, Sample, mean_sample
from .ptb_tokens import ptb_tokens

CIDER = Metric("cider", "CIDEr", SCORE, made_by="pycocoevalcap, PTB tokens, CIDEr-D times 10")
SPICE = Metric("spice", "SPICE", SCORE, made_by="pycocoevalcap, PTB tokens")
SPIDER = Metric("spider", "SPIDEr", SCORE, made_by="mean of CIDEr and SPICE")
LEAST_CLIPS = 2  # with one, every n-gram is in all references and weighs nothing
CORENLP = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
NO_JAVA = "java, which splits words for it, is not on the PATH"

Captions = dict[str, list[str]]


def measure_for(languages: Sequence[str]) -> Measure:
    """The metrics; their tokens are made for English."""
    import pycocoevalcap.cider.cider  # noqa: F401  tell now if it is missing

    return measure


def measure(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[Sample, ...]:
    """Those of the three metrics that this machine can compute, and why not the others."""
    if shutil.which("java") is None:
        return tuple(Sample(metric, None, reason=NO_JAVA) for metric in (CIDER, SPICE, SPIDER))
    answers, accepted = _tokens(hypotheses, references)
    cider, spice = _cider(answers, accepted), _spice(answers, accepted)
    return cider, spice, _spider(cider, spice)


def _tokens(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[Captions, Captions]:
    """Answer and references of each clip, as pycocoevalcap takes them."""
    counts = [len(texts) for texts in references]
    tokens = iter(ptb_tokens([*hypotheses, *(text for texts in references for text in texts)]))
    answers = {str(i): [next(tokens)] for i in range(len(hypotheses))}
    return answers, {str(i): [next(tokens) for _ in range(count)] for i, count in enumerate(counts)}


def _cider(answers: Captions, references: Captions) -> Sample:
    from pycocoevalcap.cider.cider import Cider

    if len(answers) < LEAST_CLIPS:
        return Sample(CIDER, None, reason=f"needs at least {LEAST_CLIPS} clips")
    if not any(text for texts in references.values() for text in texts):
        return Sample(CIDER, None, reason="the references hold no word")
    value, scores = Cider().compute_score(references, answers)
    sample = mean_sample(CIDER, scores.tolist())
    return Sample(CIDER, float(value), sample.statistics, sample.of_sums)


def _spice(answers: Captions, references: Captions) -> Sample:
    folder = spice_folder()
    if missing := [name for name in CORENLP if not (folder / name).is_file()]:
        return Sample(SPICE, None, reason=f"needs {' and '.join(missing)} in {_below_packages(folder)}")
    from pycocoevalcap.spice.spice import Spice

    _, details = Spice().compute_score(references, answers)
    by_name = dict(zip(sorted(answers), details, strict=True))
    scores = [float(by_name[name]["All"]["f"]) for name in answers]
    if not all(map(math.isfinite, scores)):
        return Sample(SPICE, None, reason="SPICE gave no number for some clips")
    return mean_sample(SPICE, scores)


def _spider(cider: Sample, spice: Sample) -> Sample:
    if cider.statistics is None or spice.statistics is None:
        lacking = " and ".join(part.metric.title for part in (cider, spice) if part.statistics is None)
        return Sample(SPIDER, None, reason=f"needs {lacking}")
    return mean_sample(SPIDER, ((cider.statistics[:, 0] + spice.statistics[:, 0]) / 2).tolist())


def spice_folder() -> Path:
    """Where pycocoevalcap looks for Stanford CoreNLP; it would download it, which is not done here."""
    spec = find_spec("pycocoevalcap.spice")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "lib"


def _below_packages(folder: Path) -> str:
    return "/".join(folder.parts[folder.parts.index("pycocoevalcap") :])
