"""Counts among options of every kind: one check, one sentence."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from fastadasp.evaluation.options import EvalOptions
from fastadasp.export.studies.compare.options import CompareOptions
from fastadasp.export.studies.select_layer.options import SelectionOptions
from fastadasp.export.studies.tune.options import TuneOptions
from fastadasp.profiles.errors import RequestError
from fastadasp.profiles.faults import is_count
from fastadasp.runtime.benchmark.options import BenchmarkOptions
from fastadasp.runtime.decoding.options import SearchOptions

LEAST = [
    *((SearchOptions, {}, name, 1) for name in ("num_beams", "max_new_tokens", "num_return_sequences")),
    *((SearchOptions, {}, name, 0) for name in ("min_new_tokens", "no_repeat_ngram_size")),
    *((BenchmarkOptions, {}, name, 1) for name in ("new_tokens", "runs")),
    *((BenchmarkOptions, {}, name, 0) for name in ("warmup", "threads")),
    *((EvalOptions, {}, name, least) for name, least in (("resamples", 1), ("seed", 0), ("workers", 1))),
    *((CompareOptions, {}, name, least) for name, least in (("start_layer", 0), ("seeds", 1))),
    *(
        (SelectionOptions, {"flops_reduction": Fraction(1, 2)}, name, least)
        for name, least in (("resamples", 1), ("seed", 0), ("threads", 0))
    ),
    *((TuneOptions, {"max_loss": 1.0}, name, least) for name, least in (("runs", 1), ("warmup", 0))),
]


@pytest.mark.parametrize(("kind", "needed", "name", "least"), LEAST)
def test_a_count_that_is_too_low_is_refused_in_one_sentence(kind, needed, name, least):
    assert getattr(kind(**needed, **{name: least}), name) == least
    for value in (least - 1, 2.5, True, "3"):
        with pytest.raises(RequestError) as caught:
            kind(**needed, **{name: value})
        assert str(caught.value) == f"{name} is {value!r}: give a whole number of at least {least}"


def test_integers_of_numpy_are_counts():
    assert is_count(np.int64(3), 3)
    assert not is_count(np.int64(2), 3)
    assert not is_count(np.float32(3))
