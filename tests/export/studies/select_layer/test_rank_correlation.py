"""Spearman's rank correlation, and losses that point one way whatever the metric."""

from __future__ import annotations

import pytest

from fastadasp.evaluation.figures.bootstrap import Delta, Interval
from fastadasp.evaluation.figures.loss import badness, loss_of
from fastadasp.evaluation.figures.scores import Figure
from fastadasp.evaluation.metrics.metric import POINTS, Metric
from fastadasp.export.studies.select_layer.rank_correlation import RankCorrelation, rank_correlation

WER, BLEU = Metric("wer", "WER", lower_is_better=True), Metric("bleu", "BLEU", POINTS)


@pytest.mark.parametrize(
    ("one", "other", "rho"),
    [
        ((1, 2, 3), (10, 200, 3000), 1),
        ((1, 2, 3), (0.3, 0.2, 0.1), -1),
        ((1, 2, 3, 4), (1, 2, 4, 3), 0.8),
        ((1, 2, 2, 3), (1, 2, 3, 4), 4.5 / (4.5 * 5) ** 0.5),  # equal values share the mean rank
        ((1, 1, 1), (1, 2, 3), None),
        ((1, 2), (1, 2), None),
        ((), (), None),
    ],
)
def test_ranks_alone_count(one, other, rho):
    found = rank_correlation(one, other)
    assert found == RankCorrelation(None if rho is None else pytest.approx(rho), len(one))


def test_it_is_that_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    one, other = (3, 1, 4, 1, 5, 9, 2, 6), (2, 7, 1, 8, 2, 8, 1, 8)
    assert rank_correlation(one, other).rho == pytest.approx(stats.spearmanr(one, other).statistic)


def test_a_loss_is_above_0_where_the_metric_is_worse():
    more_errors = Figure(WER, 0.12, delta=Delta(0.02, Interval(-0.01, 0.05)))
    assert loss_of(more_errors).value == pytest.approx(2.0)
    assert loss_of(more_errors).interval == Interval(pytest.approx(-1.0), pytest.approx(5.0))
    less_bleu = Figure(BLEU, 30.0, delta=Delta(-1.5, Interval(-3.0, 0.5)))
    assert (loss_of(less_bleu).value, loss_of(less_bleu).interval) == (1.5, Interval(-0.5, 3.0))
    assert loss_of(Figure(BLEU, 30.0)) is None
    assert str(loss_of(Figure(BLEU, 30.0, delta=Delta(0.0))).value) == "0.0"
    assert badness(WER, 0.1) < badness(WER, 0.2)
    assert badness(BLEU, 20.0) > badness(BLEU, 30.0)
