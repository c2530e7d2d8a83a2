"""The records of result files: what a command writes is what a report reads.

Figures are in the unit of their metric (a `share` of 1, `points` of 100, or a plain `score`), and so are
their intervals, differences and losses. Shares of rows and FLOPs are of 1, too: measured ones are numbers,
those that were asked for are exact, in a file texts such as "3/10". Times are in milliseconds. What was not
measured is None.
"""
