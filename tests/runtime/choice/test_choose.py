"""Which profile a budget chooses: by figures alone, never better for less of it, refused without them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastadasp.profiles.errors import RequestError
from fastadasp.runtime.choice.acceptance import accepted, verdict
from fastadasp.runtime.choice.choose import Choice, Sizes, check_choice, choose, may_be_chosen
from fastadasp.runtime.choice.figures import (
    Accuracy,
    Figures,
    Latency,
    Loss,
    Machine,
    MeasuredClips,
    Timed,
)
from fastadasp.runtime.choice.prediction import in_order, predicted
from fastadasp.runtime.choice.target import Auto
from fuzzing import fuzz

HERE = Machine("CPUExecutionProvider", "a CPU", 2)
CLIPS = MeasuredClips("clips.jsonl", "0" * 64, 400, 400, 120.0)
PROFILES = ("full", "half", "tenth")
LENGTHS = (5.0, 30.0, 120.0)
SLOW, FAST, FASTEST = (100.0, 600.0, 3000.0), (90.0, 400.0, 1500.0), (95.0, 300.0, 900.0)


def times(milliseconds: tuple[float, ...], beams: int = 1) -> tuple[Timed, ...]:
    return tuple(Timed(beams, length, each) for length, each in zip(LENGTHS, milliseconds, strict=True))


FIGURES = Figures(
    Accuracy(
        *("asr", "WER", "full", CLIPS, 30),
        {"half": Loss(0.2, -0.1, 0.5, 1.0), "tenth": Loss(0.6, 0.2, 0.9, 1.0)},
    ),
    Latency(HERE, 64, {"full": times(SLOW), "half": times(FAST), "tenth": times(FASTEST)}),
)
SHORTER = replace(FIGURES, accuracy=replace(FIGURES.accuracy, clips=replace(CLIPS, longest_seconds=29.5)))


def chosen(
    figures: Figures | None = FIGURES, seconds: float = 30.0, beams: int = 1, **budget: float
) -> Choice:
    return choose(figures, PROFILES, Auto(**budget), Sizes(seconds, beams), HERE)


def refused(figures: Figures | None = FIGURES, **asked: float) -> str:
    with pytest.raises(RequestError) as caught:
        chosen(figures, **asked)
    return str(caught.value)


# What is chosen


@pytest.mark.parametrize(
    ("seconds", "budget", "profile"),
    [(30, 0.6, "full"), (30, 0.599, "half"), (30, 0.4, "half"), (30, 0.3, "tenth"), (1, 0.09, "half")],
)
def test_a_latency_budget_takes_the_most_accurate_profile_that_is_fast_enough(
    seconds: float, budget: float, profile: str
) -> None:
    assert chosen(seconds=seconds, latency_budget=budget).profile == profile


@pytest.mark.parametrize(
    ("seconds", "budget", "profile"),
    [(30, 0, "full"), (30, 0.499, "full"), (30, 0.5, "half"), (30, 0.9, "tenth"), (5, 9, "half")],
)
def test_an_accuracy_budget_takes_the_fastest_profile_that_loses_no_more_at_worst(
    seconds: float, budget: float, profile: str
) -> None:
    assert chosen(seconds=seconds, accuracy_budget=budget).profile == profile


def test_the_reason_has_the_figures() -> None:
    assert chosen(seconds=60, latency_budget=0.8).reason == (
        "half: 0.767 s predicted for prefill and decode of 60.0 s of audio with 1 beam (64 tokens), within "
        "0.8 s; it loses least of those that are, +0.20 (95 %: -0.10 to +0.50) of WER against full on 400 "
        "clips of up to 120.0 s of clips.jsonl"
    )
    assert chosen(accuracy_budget=0).reason == (
        "full: 0.6 s predicted for prefill and decode of 30.0 s of audio with 1 beam (64 tokens), the "
        "fastest of those that lose at most 0: it loses nothing, for losses are against it"
    )


def test_figures_of_another_machine_are_used_and_said_to_be() -> None:
    there = choose(
        FIGURES, PROFILES, Auto(latency_budget=1), Sizes(30, 1), Machine("CUDAExecutionProvider", None, None)
    )
    assert there.profile == chosen(latency_budget=1).profile
    assert there.reason.endswith(
        "; the times were measured on CPUExecutionProvider, a CPU, 2 threads, and this runs on "
        "CUDAExecutionProvider"
    )


def test_a_profile_that_is_not_accepted_is_never_chosen() -> None:
    few = replace(FIGURES.accuracy, clips=replace(CLIPS, recordings=29))
    assert list(accepted(few)) == ["full"]
    assert chosen(replace(FIGURES, accuracy=few), accuracy_budget=9).profile == "full"
    over = replace(FIGURES.accuracy, losses={"half": Loss(0.2, -0.1, 0.5, 0.4)})
    assert chosen(replace(FIGURES, accuracy=over), accuracy_budget=9).profile == "full"


def test_the_unreduced_profile_need_not_be_in_the_artifact() -> None:
    found = choose(FIGURES, ("tenth", "half"), Auto(latency_budget=9), Sizes(30, 1), HERE)
    assert found.profile == "half"
    with pytest.raises(RequestError, match="none of the artifact is accepted to lose at most"):
        choose(FIGURES, ("tenth", "half"), Auto(accuracy_budget=0.1), Sizes(30, 1), HERE)
    with pytest.raises(RequestError, match="neither an accepted profile nor full"):
        choose(FIGURES, ("other",), Auto(accuracy_budget=0.1), Sizes(30, 1), HERE)


# What is refused


def test_no_loss_is_taken_to_hold_for_audio_longer_than_all_that_was_measured() -> None:
    assert chosen(SHORTER, 29.5, accuracy_budget=9).profile == "tenth"
    for budget in ({"accuracy_budget": 9.0}, {"latency_budget": 9.0}):
        assert "no figures of accuracy for 29.6 s" in refused(SHORTER, seconds=29.6, **budget)


@pytest.mark.parametrize(
    ("figures", "asked", "fault"),
    [
        (None, {}, "holds no figures of accuracy; measure them with: eval ART"),
        (replace(FIGURES, accuracy=None), {}, "holds no figures of accuracy"),
        (replace(FIGURES, latency=None), {}, "holds no figures of latency; measure them with: bench ART"),
        (FIGURES, {"beams": 5}, "no figures of latency for 5 beams under profile full, only for 1;"),
        (FIGURES, {"beams": 5}, "with --beams 1,5"),
        (SHORTER, {}, "no figures of accuracy for 30.0 s of audio, only up to 29.5 s; measure them with"),
        (SHORTER, {"latency_budget": 0.6}, "eval ART --manifest LONGER_CLIPS --max-loss POINTS -o eval.json"),
        (FIGURES, {"seconds": 120.1}, "120.1 s of audio and 1 beam under profile full, only up to 120 s"),
        (
            FIGURES,
            {"latency_budget": 0.29},
            "take at most 0.29 s of prefill and decode; the fastest, tenth, takes 0.3 s for 30.0 s of audio",
        ),
    ],
)
def test_what_is_missing_is_refused_with_the_remedy(
    figures: Figures | None, asked: dict[str, float], fault: str
) -> None:
    words = refused(figures, **{"latency_budget": 9.0, **asked})
    assert words.startswith("profile auto: ")
    assert fault in words


def checked(figures: Figures, beams: int = 1, **budget: float) -> str | None:
    """Why no audio could have a profile; None where some could."""
    try:
        check_choice(figures, PROFILES, Auto(**budget), beams)
    except RequestError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("budget", "profiles"),
    [
        ({"latency_budget": 0.1}, PROFILES),
        ({"accuracy_budget": 0.9}, PROFILES),
        ({"accuracy_budget": 0.5}, PROFILES[:2]),
        ({"accuracy_budget": 0.49}, PROFILES[:1]),
    ],
)
def test_what_a_request_may_get_is_known_before_its_audio_is(
    budget: dict[str, float], profiles: tuple[str, ...]
) -> None:
    assert may_be_chosen(FIGURES, PROFILES, Auto(**budget)) == profiles


def test_a_budget_that_longer_audio_meets_is_not_refused_before_any_is_heard() -> None:
    noisy = {"full": times((136.0, 104.0, 300.0)), "half": times((120.0, 86.0, 200.0))}
    held = replace(FIGURES, latency=replace(FIGURES.latency, times={**noisy, "tenth": times(SLOW)}))
    assert chosen(held, seconds=30, latency_budget=0.1).profile == "half"
    assert checked(held, latency_budget=0.1) is None
    assert "the fastest, half, takes 0.086 s for 30.0 s of audio: allow" in str(
        checked(held, latency_budget=0.08)
    )


def test_no_time_counts_that_is_of_longer_audio_than_a_profile_may_be_chosen_for() -> None:
    falling = dict.fromkeys(PROFILES, times((100.0, 90.0, 10.0)))
    held = replace(SHORTER, latency=replace(FIGURES.latency, times=falling))
    assert "takes 0.0902 s for 29.5 s of audio" in str(checked(held, latency_budget=0.09))
    assert checked(held, latency_budget=0.0903) is None
    assert "no figures of latency for 5 beams" in str(checked(FIGURES, beams=5, latency_budget=9))


def test_a_profile_without_times_is_named() -> None:
    lacking = replace(FIGURES.latency, times={"full": times(SLOW), "half": times(FAST)})
    words = refused(replace(FIGURES, latency=lacking), accuracy_budget=9)
    assert "no figures of latency for profile tenth" in words
    assert "with --profile tenth among others" in words


@pytest.mark.parametrize(
    ("budget", "fault"),
    [
        ({}, "latency_budget and accuracy_budget: give one of them for profile auto; none is given"),
        ({"latency_budget": 1, "accuracy_budget": 1}, "both are given"),
        ({"latency_budget": 0}, "latency_budget is 0: give seconds above 0"),
        ({"latency_budget": float("nan")}, "latency_budget is nan"),
        ({"latency_budget": "1"}, "latency_budget is '1'"),
        ({"latency_budget": True}, "latency_budget is True"),
        ({"accuracy_budget": -0.1}, "accuracy_budget is -0.1: give a number of points from 0 on"),
        ({"accuracy_budget": float("inf")}, "accuracy_budget is inf"),
    ],
)
def test_a_budget_is_one_number(budget: dict[str, float], fault: str) -> None:
    with pytest.raises(RequestError) as caught:
        Auto(**budget)
    assert fault in str(caught.value)


# Times between those that were measured


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [(0.01, 100), (5, 100), (17.5, 350), (30, 600), (75, 1800), (120, 3000)],
)
def test_a_length_lies_between_its_neighbours(seconds: float, milliseconds: float) -> None:
    assert FIGURES.latency is not None
    assert predicted(FIGURES.latency, "full", seconds, 1) == pytest.approx(milliseconds / 1e3)


def test_one_length_is_enough_up_to_itself() -> None:
    single = Latency(HERE, 64, {"full": (Timed(1, 10.0, 50.0),)})
    assert predicted(single, "full", 10.0, 1) == predicted(single, "full", 0.1, 1) == 0.05
    with pytest.raises(RequestError, match="only up to 10 s"):
        predicted(single, "full", 10.01, 1)


# Verdicts


@pytest.mark.parametrize(
    ("loss", "recordings", "outcome", "words"),
    [
        (Loss(0.5, 0.1, 1.0, 1.0), 30, "within", "is within the budget of 1"),
        (Loss(0.5, 0.1, 1.01, 1.0), 30, "cannot tell", "cannot tell, for the interval goes beyond it"),
        (Loss(0.5, 0.1, 0.9, 1.0), 29, "cannot tell", "with so few recordings, 29 of at least 30"),
        (Loss(0.0, None, None, 1.0), 1, "cannot tell", "with so few recordings, 1 of at least 30"),
        (
            Loss(0.0, None, None, 1.0),
            30,
            "cannot tell",
            "some draws of the recordings leave the metric without a",
        ),
        (Loss(1.1, -3.0, 9.0, 1.0), 2, "over", "+1.10 (95 %: -3.00 to +9.00) is over the budget of 1"),
        (Loss(0.1 + 0.2, 0.3, 0.1 + 0.2, 0.3), 30, "within", "within"),
    ],
)
def test_a_profile_is_within_its_budget_where_the_recordings_show_it(
    loss: Loss, recordings: int, outcome: str, words: str
) -> None:
    found = verdict(loss, recordings, 30)
    assert found.outcome == outcome
    assert words in found.reason


def test_where_the_full_model_hardly_answers_no_loss_tells_anything() -> None:
    for loss in (Loss(0.0, 0.0, 0.0, 1.0), Loss(2.0, 1.5, 2.5, 1.0)):
        found = verdict(loss, 30, 30, "it says nothing")
        assert found.outcome == "cannot tell"
        assert found.reason.endswith("of a budget of 1: cannot tell, for it says nothing")


def test_one_recording_shows_nothing_however_few_are_asked_for() -> None:
    assert "1 of at least 2" in verdict(Loss(0.0, None, None, 1.0), 1, 1).reason


# Properties

POINTS = st.floats(-2, 5)
MILLISECONDS = st.floats(1, 5000)


@st.composite
def figures(draw: st.DrawFn) -> Figures:
    """Two profiles beside `full`, of which any may be accepted, with any times."""
    losses = {}
    for profile in draw(st.sets(st.sampled_from(PROFILES[1:]))):
        low, value, high = sorted(draw(st.tuples(POINTS, POINTS, POINTS)))
        losses[profile] = Loss(value, low, high, draw(st.floats(0, 5)))
    every = {name: times(draw(st.tuples(*[MILLISECONDS] * len(LENGTHS)))) for name in PROFILES}
    return Figures(Accuracy("asr", "WER", "full", CLIPS, 30, losses), Latency(HERE, 64, every))


def worst(held: Figures, profile: str) -> float:
    assert held.accuracy is not None
    return accepted(held.accuracy)[profile].high or 0.0


def took(held: Figures, profile: str, seconds: float) -> float:
    assert held.latency is not None
    return predicted(held.latency, profile, seconds, 1)


def either(held: Figures, seconds: float, **budget: float) -> str | None:
    """The profile; None where none is within the budget."""
    try:
        return chosen(held, seconds, **budget).profile
    except RequestError:
        return None


@fuzz(200)
@given(
    held=figures(), seconds=st.floats(0.01, 120), budgets=st.tuples(st.floats(1e-3, 6), st.floats(1e-3, 6))
)
def test_more_time_is_never_less_accurate(
    held: Figures, seconds: float, budgets: tuple[float, float]
) -> None:
    less, more = (either(held, seconds, latency_budget=budget) for budget in sorted(budgets))
    if less is not None:
        assert took(held, less, seconds) <= min(budgets)
        assert more is not None
        assert worst(held, more) <= worst(held, less)


@fuzz(200)
@given(held=figures(), seconds=st.floats(0.01, 120), budgets=st.tuples(st.floats(0, 6), st.floats(0, 6)))
def test_more_loss_is_never_slower(held: Figures, seconds: float, budgets: tuple[float, float]) -> None:
    less, more = (either(held, seconds, accuracy_budget=budget) for budget in sorted(budgets))
    assert less is not None, "full loses nothing"
    assert more is not None
    assert worst(held, less) <= min(budgets) + 1e-9
    assert took(held, more, seconds) <= took(held, less, seconds)


@fuzz(100)
@given(held=figures(), seconds=st.floats(0.01, 120))
def test_what_is_chosen_is_the_best_there_is(held: Figures, seconds: float) -> None:
    assert held.accuracy is not None
    among = accepted(held.accuracy)
    fastest = either(held, seconds, accuracy_budget=6)
    best = either(held, seconds, latency_budget=9)
    assert fastest in among
    assert took(held, str(fastest), seconds) == min(took(held, name, seconds) for name in among)
    assert worst(held, str(best)) == min(worst(held, name) for name in among)


@fuzz(200)
@given(held=figures(), seconds=st.floats(0.01, 120), budget=st.floats(1e-3, 6))
def test_a_budget_is_refused_before_any_audio_where_no_length_meets_it(
    held: Figures, seconds: float, budget: float
) -> None:
    found = [either(held, length, latency_budget=budget) for length in (seconds, *LENGTHS)]
    assert (checked(held, latency_budget=budget) is None) == any(found)


@fuzz(50)
@given(st.permutations(PROFILES))
def test_of_equals_the_first_of_the_artifact_is_taken(order: list[str]) -> None:
    losses = {name: Loss(0.0, 0.0, 0.0, 1.0) for name in PROFILES[1:]}
    assert FIGURES.accuracy is not None
    same = Figures(
        replace(FIGURES.accuracy, losses=losses), Latency(HERE, 64, dict.fromkeys(PROFILES, times(SLOW)))
    )
    for budget in (Auto(latency_budget=1), Auto(accuracy_budget=0)):
        assert choose(same, order, budget, Sizes(30, 1), HERE).profile == order[0]


def test_of_equal_losses_the_faster_one_is_taken() -> None:
    losses = {"half": Loss(0.0, 0.0, 0.0, 1.0)}
    assert FIGURES.accuracy is not None
    same = replace(FIGURES, accuracy=replace(FIGURES.accuracy, losses=losses))
    assert chosen(same, latency_budget=9).profile == "half"


MORE, LESS, LESS_AT_WORST = Loss(0.3, 0.0, 0.5, 1.0), Loss(0.2, 0.0, 0.5, 1.0), Loss(0.4, 0.0, 0.45, 1.0)


@pytest.mark.parametrize("order", [("half", "tenth"), ("tenth", "half")], ids="-".join)
@pytest.mark.parametrize(
    ("half", "tenth", "budget"),
    [
        ((LESS, SLOW), (MORE, FAST), Auto(latency_budget=9)),
        ((MORE, FAST), (LESS, FAST), Auto(latency_budget=9)),
        ((LESS, FAST), (LESS_AT_WORST, FAST), Auto(accuracy_budget=1)),
        ((MORE, FAST), (LESS, FAST), Auto(accuracy_budget=1)),
    ],
    ids=["faster", "as fast, likely less", "less at worst", "as much at worst, likely less"],
)
def test_of_equals_the_faster_one_is_taken_then_the_one_that_loses_less(
    half: tuple[Loss, tuple[float, ...]],
    tenth: tuple[Loss, tuple[float, ...]],
    budget: Auto,
    order: tuple[str, ...],
) -> None:
    assert FIGURES.accuracy is not None
    losses = {"half": half[0], "tenth": tenth[0]}
    latency = Latency(HERE, 64, {"half": times(half[1]), "tenth": times(tenth[1])})
    equal = Figures(replace(FIGURES.accuracy, losses=losses), latency)
    assert choose(equal, order, budget, Sizes(30, 1), HERE).profile == "tenth"


def test_times_are_held_in_order() -> None:
    mixed = (Timed(5, 10.0, 1.0), Timed(1, 30.0, 1.0), Timed(1, 10.0, 1.0))
    assert in_order(mixed) == (mixed[2], mixed[1], mixed[0])
