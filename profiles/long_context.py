"""Prompts that are longer than those of the training: a wider rotary base, and sharper queries.

Dynamic NTK raises the base of the rotary positions in steps of the prompt's length. Log-n multiplies queries
by log_S of the number of keys that they see, at least by 1.
"""

from dataclasses import dataclass

from .signature import FLOAT, INT64, ROPE_ALPHA, ROWS_BEFORE_EVICTION, TensorSpec

LONGEST_LOG_N = 32767  # keys: the factors of the published code end there


@dataclass(frozen=True)
class LongContext:
    """What a decoder does beyond the rows that it was trained on."""

    trained_rows: int  # S, at least `least_trained_rows`
    dynamic_ntk: bool
    log_n: bool

    def rope_alpha(self, prompt_rows: int) -> int:
        """By what the rotary base grows for a prompt, for all of its steps too: base * alpha^(hd / (hd - 2)).

        It is 2 P - 1 for the least power of two P with P * S >= `prompt_rows`: 1 up to S rows, 3 up to 2 S,
        7 up to 4 S. The rows are those before any reduction.
        """
        steps = -(-prompt_rows // self.trained_rows)  # the least number of S that hold the prompt
        return 2 * (1 << max(0, steps - 1).bit_length()) - 1 if self.dynamic_ntk else 1

    @property
    def least_trained_rows(self) -> int:
        """Of log-n 2: there is no logarithm to the base 1."""
        return 2 if self.log_n else 1

    @property
    def in_words(self) -> str:
        """What is on, and from where."""
        on = [name for name, used in (("dynamic NTK", self.dynamic_ntk), ("log-n", self.log_n)) if used]
        return f"{' and '.join(on)} beyond {self.trained_rows} rows"

    @property
    def request_inputs(self) -> tuple[TensorSpec, ...]:
        """What prefill and steps take."""
        return (TensorSpec(ROPE_ALPHA, FLOAT, (1,)),) if self.dynamic_ntk else ()

    @property
    def step_inputs(self) -> tuple[TensorSpec, ...]:
        """What steps take beside it."""
        return (TensorSpec(ROWS_BEFORE_EVICTION, INT64, (1,)),) if self.log_n else ()
