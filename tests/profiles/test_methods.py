"""The table of methods, and what profiles read from it."""

import pytest

from fastadasp.profiles import METHODS, SCHEDULES, Method, Profile, ProfileError, parse_profile
from fastadasp.profiles.keys import KEYS
from fastadasp.profiles.methods import VARIANTS, Sums
from fastadasp.profiles.schedule import AT_INPUT


def test_a_method_stands_under_its_name() -> None:
    assert [method.name for method in METHODS.values()] == list(METHODS)
    assert next(iter(METHODS)) == "full"


def test_a_method_with_two_scores_is_compared_as_two() -> None:
    scored = {name: method for name, method in VARIANTS.items() if method.name == "fastv"}
    assert {name: (method.title, method.sums) for name, method in scored.items()} == {
        "fastv": ("FastV", Sums.ALL_QUERIES),
        "fastv_last_query": ("FastV, last query", Sums.LAST_QUERY),
    }
    assert len(VARIANTS) == len(METHODS)  # without `full`, with the second score
    assert len({method.title for method in VARIANTS.values()}) == len(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_settings_of_a_variant_make_a_profile_of_its_traits(name: str) -> None:
    method = VARIANTS[name]
    text = f'method = "{method.name}"\nschedule = "{method.schedules[-1]}"\nratio = 0.5\n'
    text += "".join(f'{key} = "{value}"\n' for key, value in method.settings.items())
    assert parse_profile(text, "mine", "here").traits == method


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_only_what_asks_for_no_attention_reduces_at_the_input(method: Method) -> None:
    assert not (set(AT_INPUT) & set(method.schedules) and method.sums is not Sums.NONE)


def test_what_belongs_to_single_methods_is_a_key_of_profiles() -> None:
    own = {key for method in METHODS.values() for key in method.own_keys}
    assert own == {"seed", "segments", "fastv_score"}
    assert own <= set(KEYS)


def test_the_schedules_of_a_method_are_the_only_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "mine", Method("mine", "mine", schedules=("single", "decay")))
    for schedule in ("single", "decay"):
        text = f'method = "mine"\nschedule = "{schedule}"\nratio = 0.5\n'
        assert parse_profile(text, "p", "here").schedule == schedule
    assert parse_profile('method = "mine"\nratio = 0.5\n', "p", "here").schedule == SCHEDULES[0]
    with pytest.raises(ProfileError, match=r'method \'mine\' needs schedule = "single" or "decay"$'):
        parse_profile('method = "mine"\nschedule = "constant"\nratio = 0.5\n', "p", "here")


def test_the_schedule_without_a_word_is_the_first_one() -> None:
    assert Profile.schedule == SCHEDULES[0]
