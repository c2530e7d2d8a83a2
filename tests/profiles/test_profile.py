"""Profiles are read exactly, refused with every fault at once, and written back unchanged."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastadasp.profiles import (
    METHODS,
    DecoderDims,
    Profile,
    ProfileError,
    builtin_names,
    flops_reduction,
    load_profile,
    parse_profile,
    profile_to_toml,
    resolve,
)
from fastadasp.profiles.schedule import has_start_layer

MERGE, H2O = 'method = "weighted_merge"\n', 'method = "h2o"\n'


def _fault(text: str, name: str = "mine") -> str:
    with pytest.raises(ProfileError) as caught:
        parse_profile(text, name, "mine.toml")
    return str(caught.value)


def test_every_built_in_profile_meets_its_target() -> None:
    dims = DecoderDims(32, 4096, 32, 32, 128, 11008, 155947)
    for name in builtin_names():
        profile = load_profile(name)
        assert profile.name == name
        reduction = flops_reduction(dims, 751, 20, resolve(profile, dims, 751).ratios)
        percent = 0 if name == "full" else int(name.rsplit("-", 1)[1])
        assert percent <= 100 * reduction < percent + 1


def test_the_built_in_profiles_are_the_promised_ones() -> None:
    kinds = {"dense-constant": ("constant", 2), "dense-decay": ("decay", 2), "sparse": ("single", 3)}
    promised = [
        Profile(
            f"{kind}-{n}",
            "weighted_merge",
            *where,
            flops_reduction=Fraction(n, 100),
            reference_audio_seconds=Fraction(30),
            positions="compact",
        )
        for kind, where in kinds.items()
        for n in (10, 20, 30, 40, 50)
    ]
    assert [load_profile(name) for name in builtin_names()] == [Profile("full", "full"), *promised]


def test_a_profile_is_read_from_toml() -> None:
    text = MERGE + 'schedule = "decay"\nstart_layer = 4\nflops_reduction_percent = 12.5\n'
    text += "reference_audio_seconds = 10.5\nreference_text_tokens = 7\ninclude_audio_bos = true\n"
    assert parse_profile(text, "mine", "here") == Profile(
        name="mine",
        method="weighted_merge",
        schedule="decay",
        start_layer=4,
        flops_reduction=Fraction(1, 8),
        reference_audio_seconds=Fraction(21, 2),
        reference_text_tokens=7,
        include_audio_bos=True,
    )


@pytest.mark.parametrize(
    ("written", "ratio"),
    [
        ("0.29", Fraction(29, 100)),
        ("0.0595", Fraction(119, 2000)),
        ("2.5e-1", Fraction(1, 4)),
        ("0", Fraction(0)),
        ('"1/3"', Fraction(1, 3)),
    ],
)
def test_ratios_are_exact(written: str, ratio: Fraction) -> None:
    assert parse_profile(f"{MERGE}ratio = {written}\n", "mine", "here").ratio == ratio


whole = st.integers(0, 2**31 - 1)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    """Any valid profile."""
    method = draw(st.sampled_from(list(METHODS)))
    name = draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True))
    bos = draw(st.booleans()) and not METHODS[method].weighs_by_encoder
    if method == "full":
        return Profile(name, method, include_audio_bos=bos)
    share = draw(st.fractions(0, 1, max_denominator=10**9).filter(lambda value: value < 1))
    if METHODS[method].is_of_caches:
        return Profile(name, method, "constant", draw(whole), ratio=share, include_audio_bos=bos)
    target: dict[str, object] = {"ratio": share}
    if share and (100 * share).denominator <= 10**9 and draw(st.booleans()):
        seconds = draw(st.fractions(Fraction(1, 100), 3600, max_denominator=10**9))
        target = {"flops_reduction": share, "reference_audio_seconds": seconds}
        target["reference_text_tokens"] = draw(whole)
    own: dict[str, object] = {}
    if method == "fastv":
        own["fastv_score"] = draw(st.sampled_from(["all_queries", "last_query"]))
    if method != "h2o":
        own["positions"] = draw(st.sampled_from(["compact", "kept"]))
    if method == "segment_evict":
        own["segments"] = draw(st.integers(1, 100))
    if method.startswith("random"):
        own["seed"] = draw(whole)
    schedule = draw(st.sampled_from(METHODS[method].schedules))
    start = draw(whole) if has_start_layer(schedule) else 0
    return Profile(name, method, schedule, start, include_audio_bos=bos, **target, **own)  # type: ignore[arg-type]


@given(profiles())
def test_toml_round_trips_exactly(profile: Profile) -> None:
    assert parse_profile(profile_to_toml(profile), profile.name, "here") == profile


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(profile_to_toml(load_profile("full")), "utf-8-sig")
    assert load_profile(path) == replace(load_profile("full"), name="mine")


@pytest.mark.parametrize("name", builtin_names())
def test_built_in_profiles_round_trip(name: str) -> None:
    profile = load_profile(name)
    assert parse_profile(profile_to_toml(profile), name, "here") == profile


def test_all_faults_are_told_at_once_on_one_line() -> None:
    text = (
        'method = "weighted_merge"\nratio = 1.2\nstart_layer = -1\nschedule = 3\ncolour = "red"\nseed = 4\n'
    )
    message = _fault(text)
    assert message.startswith("profile 'mine' in mine.toml: ")
    assert "unknown key 'colour': known keys are method, schedule, start_layer, ratio" in message
    assert "schedule = 3 must be one of single, constant, decay" in message
    assert "ratio = 1.2 must lie in [0, 1)" in message
    assert "start_layer = -1 must be a whole number from 0 to 2147483647" in message
    assert "seed does not apply to method 'weighted_merge'" in message
    assert message.count(";") == 4
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("ratio = 0.5\n", "method is missing: choose one of full, weighted_merge"),
        ('method = "magic"\nratio = 0.5\n', 'method = "magic" must be one of full, weighted_merge'),
        ('method = "H2O"\nratio = 0.5\n', 'method = "H2O" must be one of'),
        (H2O + "ratio = 0.5\n", "method 'h2o' needs schedule = \"constant\": from start_layer on"),
        (H2O + 'schedule = "decay"\nratio = 0.5\n', "method 'h2o' needs schedule"),
        (H2O + 'schedule = "constant"\n', "ratio is missing: the share of the audio rows that 'h2o' removes"),
        (
            H2O + 'schedule = "constant"\nflops_reduction_percent = 50\n',
            "flops_reduction_percent does not apply to method 'h2o': "
            "h2o saves KV memory and decode steps, not prefill FLOPs; give ratio",
        ),
        (H2O + 'schedule = "constant"\nratio = 0.5\nseed = 1\n', "seed does not apply to method 'h2o'"),
        (
            H2O + 'schedule = "constant"\nratio = 0.5\npositions = "kept"\n',
            "positions does not apply to method 'h2o', whose rows always keep theirs",
        ),
        (MERGE + 'ratio = 0.5\npositions = "last"\n', 'positions = "last" must be one of compact, kept'),
        ('method = "full"\npositions = "kept"\n', "positions does not apply to method 'full': remove it"),
        ('method = "a\\nb"\n', r'method = "a\nb" must be one of'),
        (
            'method = "sa_map"\nschedule = "input"\nratio = 0.5\ninclude_audio_bos = true\n',
            "include_audio_bos does not apply to method 'sa_map': it weighs rows by the attention",
        ),
        (MERGE, "exactly one of ratio and flops_reduction_percent is needed, none is given"),
        (MERGE + "ratio = 0.5\nflops_reduction_percent = 50\n", "needed, both are given"),
        (MERGE + "ratio = 1\n", "ratio = 1 must lie in [0, 1)"),
        (MERGE + "ratio = -0.01\n", "ratio = -0.01 must lie in [0, 1)"),
        (MERGE + "ratio = true\n", "ratio = True must lie in"),
        (MERGE + 'ratio = "0.5"\n', "ratio = '0.5' must lie in"),
        (MERGE + 'ratio = "1/0"\n', "ratio = '1/0' must lie in"),
        (MERGE + "ratio = nan\n", "ratio = NaN must lie in"),
        (MERGE + "ratio = inf\n", "ratio = Infinity must lie in"),
        (MERGE + "ratio = 1e999999999\n", "ratio = 1e+999999999 must lie in"),
        (MERGE + "ratio = 1e-999999999\n", "must lie in"),
        (MERGE + f"ratio = 1e{'9' * 30}\n", "ratio = NaN must lie in"),
        (MERGE + f"ratio = {'9' * 5_000}.0\n", "ratio = 1.00000e+5000 must lie in"),
        (MERGE + "ratio = 0.1234567891\n", "at most 9 decimals"),
        (MERGE + f"ratio = 0x{'f' * 9000}\n", "ratio = a number of 36000 bits must lie in"),
        (MERGE + "flops_reduction_percent = 0\n", "flops_reduction_percent = 0 must lie between 0 and 100"),
        (MERGE + "flops_reduction_percent = 100\n", "flops_reduction_percent = 100 must lie between"),
        (MERGE + "flops_reduction = 0.5\n", "unknown key 'flops_reduction'"),
        (MERGE + "ratio = 0.5\nstart_layer = 1.5\n", "start_layer = 1.5 must be a whole number"),
        (MERGE + "ratio = 0.5\nstart_layer = true\n", "start_layer = True must be a whole number"),
        (MERGE + "ratio = 0.5\nstart_layer = 99999999999999999999\n", "start_layer = a number of 67 bits"),
        (
            MERGE + "ratio = 0.5\nreference_audio_seconds = 10\n",
            "does not apply without flops_reduction_percent",
        ),
        (MERGE + "flops_reduction_percent = 5\nreference_audio_seconds = 0\n", "must lie above 0"),
        (
            MERGE + "flops_reduction_percent = 5\nreference_text_tokens = -1\n",
            "must be a whole number from 0 to 2147483647",
        ),
        (MERGE + 'ratio = 0.5\nfastv_score = "last_query"\n', "fastv_score does not apply to method"),
        (MERGE + "ratio = 0.5\ninclude_audio_bos = 1\n", "include_audio_bos = 1 must be true or false"),
        (MERGE + "ratio = 0.5\n[table]\nx = 1\n", "unknown key 'table'"),
        ('method = "full"\nratio = 0.0\n', "ratio does not apply to method 'full'"),
        ('method = "full"\nstart_layer = 0\n', "start_layer does not apply to method 'full'"),
        (
            'method = "fastv"\nratio = 0.5\nschedule = "input"\n',
            'or "decay": it asks for attention, and there is none before the first layer',
        ),
        (
            'method = "uniform_merge"\nratio = 0.5\nschedule = "input"\nstart_layer = 2\n',
            "start_layer does not apply to schedule 'input', which is before all layers: remove it",
        ),
        (
            'method = "affinity_pooling"\nratio = 0.5\n',
            "method 'affinity_pooling' needs schedule = \"input_and_single\"",
        ),
        (MERGE + "ratio = 0.5\nsegments = 4\n", "segments does not apply to method 'weighted_merge'"),
        (
            'method = "segment_evict"\nratio = 0.5\nsegments = 0\n',
            "segments = 0 must be a whole number from 1 to 100",
        ),
        ('method = "fastv"\nratio = 0.5\nfastv_score = "first"\n', "must be one of all_queries, last_query"),
        ('method = "random_evict"\nratio = 0.5\nseed = -1\n', "seed = -1 must be a whole number from 0"),
        ("method = \n", "not valid TOML"),
        ("x = " + "[" * 100_000, "not valid TOML"),
    ],
)
def test_bad_toml_is_refused_with_value_and_rule(text: str, part: str) -> None:
    message = _fault(text)
    assert part in message
    assert "\n" not in message


def test_a_faulty_ratio_is_not_also_called_missing() -> None:
    assert "needed" not in _fault(MERGE + 'ratio = "half"\n')


@pytest.mark.parametrize("name", ["", "..", "a b", "a/b", "-x", "é", "x" * 101, "x\n"])
def test_a_name_must_suit_a_file(name: str) -> None:
    assert "the name becomes a file name" in _fault(MERGE + "ratio = 0.5\n", name)


def test_a_profile_made_in_code_is_checked_too() -> None:
    with pytest.raises(ProfileError, match=r"profile 'x': ratio = 1.5 must lie in.*; seed does not apply"):
        Profile("x", "fastv", ratio=Fraction(3, 2), seed=1)


def test_a_path_gives_the_profile_its_name(tmp_path: Path) -> None:
    path = tmp_path / "fast.v1.toml"
    path.write_text(MERGE + "ratio = 0.5\n")
    assert load_profile(str(path)) == Profile("fast.v1", "weighted_merge", ratio=Fraction(1, 2))


def test_a_name_is_found_in_the_folders(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(MERGE + "ratio = 0.5\n")
    assert load_profile("mine", [tmp_path / "absent", tmp_path, tmp_path]).ratio == Fraction(1, 2)


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(MERGE + "ratio = 0.5\n")
    with pytest.raises(
        ProfileError, match=r"profile 'dense' is unknown.*full, dense-constant-10.*sparse-50, mine"
    ):
        load_profile("dense", [tmp_path])
    with pytest.raises(ProfileError, match="profile '' is empty: give a name or the path"):
        load_profile("")


def test_a_name_in_two_places_is_ambiguous(tmp_path: Path) -> None:
    (tmp_path / "full.toml").write_text(MERGE + "ratio = 0.5\n")
    with pytest.raises(ProfileError, match=r"profile 'full' is ambiguous.*builtin.*full\.toml"):
        load_profile("full", [tmp_path])


def test_a_file_that_cannot_be_read_names_its_path(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"absent\.toml does not exist"):
        load_profile(str(tmp_path / "absent.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(ProfileError, match=r"folder\.toml is a folder: give a \.toml file"):
        load_profile(str(tmp_path / "folder.toml"))
    (tmp_path / "latin.toml").write_bytes(b'method = "\xe9"')
    with pytest.raises(ProfileError, match=r"latin\.toml cannot be read"):
        load_profile(str(tmp_path / "latin.toml"))
