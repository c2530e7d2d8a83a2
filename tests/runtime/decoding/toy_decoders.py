"""Decoders without a model: small enough to enumerate, or to serve many searches at once."""

import numpy as np

from fastadasp.runtime.decoding.search import Rows, TopTokens

EMPTY = np.empty(0, np.int64)


def top_tokens(logits, k):
    """The k best of logits (rows, vocab), lower ids first on ties."""
    logits = np.asarray(logits, np.float32)
    ids = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    with np.errstate(invalid="ignore"):  # some tests give NaN
        log_sum_exp = np.logaddexp.reduce(logits, axis=1)
    return TopTokens(np.take_along_axis(logits, ids, 1), ids, log_sum_exp)


class Table:
    """A decoder whose next logits are looked up by position and last token: table (steps, vocab, vocab)."""

    def __init__(self, table):
        self.table, self.last, self.position = np.asarray(table, np.float32), np.zeros(1, int), 0

    def start(self, k):
        return top_tokens(self.table[0, self.last], k)

    def step(self, tokens, parents, k):
        assert parents.max() < len(self.last)
        self.last, self.position = tokens, self.position + 1
        return top_tokens(self.table[self.position, self.last], k)

    @property
    def vocab_size(self):
        return self.table.shape[-1]


class Histories:
    """A decoder of many searches at once: what follows a row is a function of all tokens before it."""

    def __init__(self, seed, vocab_size):
        self.seed, self.vocab_size, self.rows = seed, vocab_size, {}

    def score(self, wanted):
        """The best tokens of the rows that searches want, {name: Rows}: one k for all, the largest."""
        k = max(rows.k for rows in wanted.values())
        return {name: self._top(name, rows, k) for name, rows in wanted.items()}

    def _top(self, name, rows, k):
        if rows.is_prompt:
            self.rows[name] = [()]
        else:
            pairs = zip(rows.parents, rows.tokens.tolist(), strict=True)
            self.rows[name] = [(*self.rows[name][parent], token) for parent, token in pairs]
        return top_tokens([self._logits(row) for row in self.rows[name]], k)

    def _logits(self, row):
        return np.random.default_rng([self.seed, *row]).normal(0, 2, self.vocab_size)


class OneOf:
    """Such a decoder as that of one search, which gets no more tokens than it wants."""

    def __init__(self, histories):
        self.histories = histories

    def start(self, k):
        return self._score(Rows(EMPTY, EMPTY, k))

    def step(self, tokens, parents, k):
        return self._score(Rows(tokens, parents, k))

    def _score(self, rows):
        return self.histories.score({None: rows})[None]
