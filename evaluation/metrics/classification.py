"""Accuracy and macro F1, by scikit-learn. An answer that is no label of the references is a miss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .metric import Floats, Measure, Metric, Sample, empty_reference, mean_sample

MADE_BY = "scikit-learn, labels of the references"
ACCURACY = Metric("accuracy", "accuracy", made_by="scikit-learn")
MACRO_F1 = Metric("macro_f1", "macro F1", made_by=MADE_BY)


Texts = npt.NDArray[np.str_]


def measure_for(languages: Sequence[str]) -> Measure:
    """The metrics; they are the same in every language."""
    import sklearn.metrics  # noqa: F401  tell now if it is missing

    return measure


def measure(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[Sample, ...]:
    """Accuracy and macro F1; labels compare as texts."""
    from sklearn.metrics import accuracy_score, f1_score

    if why := empty_reference(references):
        return Sample(ACCURACY, None, reason=why), Sample(MACRO_F1, None, reason=why)
    truth, answers = np.array([texts[0] for texts in references]), np.array(hypotheses)
    labels = np.unique(truth)
    accuracy = float(accuracy_score(truth, answers))
    f1 = float(f1_score(truth, answers, labels=labels, average="macro", zero_division=0))
    hits = mean_sample(ACCURACY, (truth == answers).astype(float).tolist())
    return (
        Sample(ACCURACY, accuracy, hits.statistics, hits.of_sums),
        Sample(MACRO_F1, f1, _counts(truth, answers, labels), macro_f1),
    )


def _counts(truth: Texts, answers: Texts, labels: Texts) -> Floats:
    """For each clip and label whether it is answered rightly, is answered, is true: (clips, 3 * labels)."""
    true, answered = truth[:, None] == labels, answers[:, None] == labels
    return np.concatenate([true & answered, answered, true], axis=1).astype(np.float64)


def macro_f1(sums: Floats) -> Floats:
    """Mean F1 = 2 right / (answered + true) of the labels that a sample holds; (…, 3 * labels) -> (…)."""
    right, answered, true = np.split(sums, 3, axis=-1)
    present = true > 0
    scores = np.divide(2 * right, answered + true, out=np.zeros_like(right), where=present)
    found: Floats = scores.sum(axis=-1) / present.sum(axis=-1)
    return found
