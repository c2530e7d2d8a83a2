"""The reduction methods: one row each, where everything else looks up what a method is.

A new method is a row here, a line in the graphs (`export/graphs/reduction.py`), a line in torch
(`export/reference/reduction.py`), and an op in `plugins/` where none does what it needs. Tests hold that no
place is forgotten.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from .schedule import IN_LAYERS, INPUT, INPUT_AND_SINGLE

FULL = "full"
"""The method that removes nothing, and the profile of it, with which others are compared."""
EVERYWHERE = (*IN_LAYERS, INPUT)
"""The schedules of methods that ask for no attention: there is none before the first layer."""


class Sums(Enum):
    """Which attention that rows receive a method asks for, as sums of probabilities."""

    NONE = "none"
    ALL_QUERIES = "all_queries"  # over all heads and query rows: (rows,)
    LAST_QUERY = "last_query"  # over all heads, of the last query row alone: (rows,)
    BY_HEAD = "by_head"  # over the heads of each KV head's group and all query rows: (kv_heads, rows)

    @property
    def over_all_queries(self) -> bool:
        """Whether they take the probabilities of all query rows, which a fused attention does not give."""
        return self in (Sums.ALL_QUERIES, Sums.BY_HEAD)


class Removes(Enum):
    """What a method makes fewer."""

    NOTHING = "nothing"
    ROWS = "rows"  # that a layer hands on
    CACHED_ROWS = "cached rows"  # in the KV caches alone; the prefill keeps all of its rows


@dataclass(frozen=True)
class Method:
    """One way to reduce."""

    name: str  # `method` of a profile
    title: str  # in tables
    sums: Sums = Sums.NONE
    removes: Removes = Removes.ROWS
    is_random: bool = False  # it draws by the seed of the profile
    merges: bool = False  # neighbours become one row, so that those left stand for all; else rows are dropped
    selects_groups: bool = False  # rows are chosen one after the other, and of what merged only some stay
    is_data_dependent: bool = False  # how many rows are left depends on the audio, not on its length alone
    weighs_by_encoder: bool = False  # rows by the attention that they get in the encoder
    in_segments: bool = False  # it chooses in each of the `segments` of the profile
    schedules: tuple[str, ...] = IN_LAYERS  # that it can have
    score_key: str = ""  # key of a profile that says which of `scores` it ranks rows by
    scores: tuple[Sums, ...] = ()  # `sums` is the default one
    recorded_as: str = ""  # its name in recorded outputs of the published code, where that has it

    @property
    def reduces(self) -> bool:
        """Whether anything is removed at all."""
        return self.removes is not Removes.NOTHING

    @property
    def is_of_caches(self) -> bool:
        """Whether it shortens KV caches and leaves the rows of the prefill, and so its FLOPs, alone."""
        return self.removes is Removes.CACHED_ROWS

    @property
    def meets_targets(self) -> bool:
        """Whether it can meet a FLOPs target, whatever the audio holds."""
        return self.removes is Removes.ROWS and not self.is_data_dependent

    @property
    def own_keys(self) -> tuple[str, ...]:
        """Keys of a profile that mean something to this method, and nothing to most others."""
        keys = "seed" * self.is_random, "segments" * self.in_segments, self.score_key
        return tuple(key for key in keys if key)

    @property
    def settings(self) -> Mapping[str, str]:
        """What a profile sets beside `method` to get this row."""
        return {self.score_key: self.sums.value} if self.score_key else {}

    def unmet_by(self, schedules: Sequence[str]) -> str:
        """That it can have none of these schedules, and which it can have; empty where it can have one."""
        if set(self.schedules) & set(schedules):
            return ""
        return f"has none of the schedules {', '.join(schedules)}: name {' or '.join(self.schedules)}"

    def scored_by(self, score: Sums) -> "Method":
        """This method where it ranks rows by one of its `scores`."""
        if score is self.sums:
            return self
        title = f"{self.title}, {score.value.replace('_', ' ')}"
        return replace(self, sums=score, title=title)

    def variants(self) -> dict[str, "Method"]:
        """This method with each of its scores, under a name of its own."""
        return {
            self.name if score is self.sums else f"{self.name}_{score.value}": self.scored_by(score)
            for score in self.scores or (self.sums,)
        }


METHODS: dict[str, Method] = {
    row.name: row
    for row in (
        Method(FULL, "full model", removes=Removes.NOTHING, recorded_as="full"),
        Method("weighted_merge", "FastAdaSP", Sums.ALL_QUERIES, merges=True, recorded_as="merge_weighted"),
        Method("average_merge", "average merge", merges=True, schedules=EVERYWHERE, recorded_as="merge_ave"),
        Method("random_merge", "random merge", Sums.ALL_QUERIES, is_random=True, merges=True),
        Method("uniform_merge", "uniform pooling", merges=True, schedules=EVERYWHERE),
        Method("affinity_pooling", "Affinity Pooling", merges=True, schedules=(INPUT_AND_SINGLE,)),
        Method("group_select", "group selection", merges=True, selects_groups=True, schedules=(INPUT,)),
        Method(
            "sa_map", "SA-MAP", merges=True, selects_groups=True, weighs_by_encoder=True, schedules=(INPUT,)
        ),
        Method(
            "a_tome", "A-ToMe", merges=True, is_data_dependent=True, schedules=EVERYWHERE, recorded_as="atome"
        ),
        Method(
            "fastv",
            "FastV",
            Sums.ALL_QUERIES,
            score_key="fastv_score",
            scores=(Sums.ALL_QUERIES, Sums.LAST_QUERY),
            recorded_as="fastv_evict",
        ),
        Method("segment_evict", "segment-wise top-k", Sums.ALL_QUERIES, in_segments=True),
        Method("random_evict", "random eviction", is_random=True, schedules=EVERYWHERE),
        Method(
            "h2o", "H2O", Sums.BY_HEAD, Removes.CACHED_ROWS, schedules=("constant",), recorded_as="kv_evict"
        ),
    )
}

FULL_MODEL = METHODS[FULL].title

VARIANTS: dict[str, Method] = {
    name: variant
    for method in METHODS.values()
    if method.reduces
    for name, variant in method.variants().items()
}
"""Every way to reduce, in the order of the published tables: a method with two scores is two of them."""
