"""Identity of the op that selects groups. `span` is (start, length) of the audio rows, `removed` what goes.

After the grouping and the selection of SA-MAP, whatever rows are weighed by.
"""

from ..merge_tokens.op import LARGEST_WEIGHT, SMALLEST_WEIGHT

SELECT_GROUPS = "SelectGroups"
"""(hidden, weight, relevance, span, removed) -> (score, links, kept, first): groups of alike neighbours, and
which stay.

Along the `links` edges of the largest `score` the rows of a group merge. Of the groups then left, which
begin at the rows `first` of the span, those stay for which `kept` is 1, or all if it is 0 everywhere.
"""

GROUP_SIMILARITY = 0.85
"""A row joins the group before it if its mean cosine with the rows of that group is at least this."""

NO_LINK = -2.0
"""The score of an edge whose second row begins a group: below any cosine."""

DIAGONAL = 2.0**-10
"""Added to the similarity of each group with itself, so that a choice is left where more groups than a row
has numbers are selected: without it, what those chosen so far leave of any other would be rounding error.
"""

GRID = 2.0**24
"""What a choice compares is rounded to multiples of 1 / GRID, so that equal rows tie on any backend."""

SMALLEST_NORM = 1e-300
"""The least divisor of a row in float64: a zero row has similarity 0 to any row."""

LEAST, MOST = SMALLEST_WEIGHT, LARGEST_WEIGHT
"""Weights and relevances are clamped to this range, as `MergeEdges` clamps its weights.
NaN counts as the smallest.
"""
