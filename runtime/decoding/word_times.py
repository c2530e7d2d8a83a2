"""Where in the audio the decoder looks as it writes a word, from the attention of one step.

Heads that follow the audio look at where a word begins when they are about to write it. Rows that stand for
more audio get more attention, so attention counts per second; the rows beside the highest one belong to it
as long as they get a good share of what it gets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .row_map import LayerRows

Array = npt.NDArray[Any]

BESIDE = 0.2  # share of the highest attention; from 0.1 to 0.5 begins on the demo move by 30 ms


def looked_at(attention: Array, rows: LayerRows) -> tuple[float, float]:
    """The seconds that a step looks at most.

    Args:
        attention: of its row to each audio row of a layer, (rows,), in any scale.
        rows: what these stand for.
    """
    density = attention / (np.array(rows.ends) - np.array(rows.starts))
    best = int(density.argmax())
    others = np.flatnonzero(density < BESIDE * density[best])
    first = int(others[others < best].max(initial=-1)) + 1
    last = int(others[others > best].min(initial=len(density))) - 1
    return rows.starts[first], rows.ends[last]
