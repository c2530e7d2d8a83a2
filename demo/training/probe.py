"""How well a linear classifier tells the style from encoder output: what the model is measured against."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from .features import Features


def style_probe(train: Features, *tests: Features) -> list[float]:
    """Accuracy on each test set of a logistic regression over mean and deviation of a clip's rows."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=500))
    probe.fit(*_pooled(train))
    return [float(probe.score(*_pooled(test))) for test in tests]


def _pooled(features: Features) -> tuple[npt.NDArray[np.float32], list[str]]:
    """(clips, 2 · encoder width), and the styles."""
    clips = [i for i, facts in enumerate(features.facts) if facts.style is not None]
    rows = (features.rows(clip) for clip in clips)
    pooled = np.stack([np.concatenate([part.mean(0), part.std(0)]) for part in rows])
    return pooled, [str(features.facts[clip].style) for clip in clips]
