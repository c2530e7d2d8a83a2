"""The loss per token of the right answer: what a model thinks of it, whatever it says itself.

It moves before words do, and tells apart what error rates of answers that end early or loop do not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..answers.answers import Answer
from ..metrics.metric import SCORE, Metric, Sample, ratio

TOKEN_LOSS = Metric(
    "token_loss",
    "token loss",
    SCORE,
    lower_is_better=True,
    made_by="the model: nats a token of the first reference and its end",
)


def token_loss(answers: Sequence[Answer]) -> tuple[Sample, ...]:
    """Of the references of all clips together; nothing where they were not scored."""
    scores = [answer.reference for answer in answers if answer.reference is not None]
    if not scores or len(scores) < len(answers):
        return ()
    statistics = np.array([(-score.log_probability, score.tokens) for score in scores], np.float64)
    return (Sample(TOKEN_LOSS, float(ratio(statistics.sum(0))), statistics, ratio),)
