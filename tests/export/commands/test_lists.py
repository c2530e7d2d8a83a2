"""Lists on the command line."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from fastadasp.export.cli import main
from fastadasp.export.commands.lists import INTEGERS, NAMES, PERCENTS, PROFILES, REALS, ListOf
from fastadasp.profiles.profile import builtin_names
from fastadasp.runtime import SpeechLM


def test_spaces_around_an_item_count_for_nothing() -> None:
    assert NAMES.items(" a , b c ") == ("a", "b c")


def test_percentages_are_exact() -> None:
    assert PERCENTS.items("0.1,100/3") == (Fraction(1, 1000), Fraction(1, 3))


@pytest.mark.parametrize(
    ("items", "text", "fault"),
    [
        (INTEGERS, "1,x", "'1,x' is no list of numbers such as 1,5"),
        (INTEGERS, "1,2.5", "'1,2.5' is no list of numbers such as 1,5"),
        (PERCENTS, "10,ten", "'10,ten' is no list of percentages such as 10,20"),
        (PERCENTS, "1/0", "'1/0' is no list of percentages such as 10,20"),
        (PERCENTS, "10,1e400", "1e400 is not between 0 and 100"),
        (NAMES, "a,,b", "'a,,b' has an empty item"),
    ],
)
def test_what_is_no_list_is_refused(items: ListOf[object], text: str, fault: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        items.items(text)
    assert fault in caught.value.message


@pytest.mark.parametrize(
    ("items", "text"), [(NAMES, "a,b"), (REALS, "30,2.5"), (PERCENTS, "10,12.5"), (INTEGERS, "1,5")]
)
def test_a_list_is_shown_as_it_is_given(items: ListOf[object], text: str) -> None:
    assert items.text(items.items(text)) == text


def test_an_existing_file_is_one_profile_whatever_its_name_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my,own.toml").touch()
    assert PROFILES.items("my,own.toml") == ("my,own.toml",)
    assert PROFILES.items("my,other.toml") == ("my", "other.toml")
    assert NAMES.items("my,own.toml") == ("my", "own.toml")


def test_a_list_of_profiles_may_be_longer_than_the_name_of_a_file() -> None:
    names = builtin_names() * 10
    assert PROFILES.items(",".join(names)) == names


def test_build_takes_profiles_in_that_grammar(
    tiny_checkpoint: Path, tiny_profile_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "full,own"
    folder.mkdir()
    own = folder / "own-30.toml"
    own.write_bytes((tiny_profile_folder / own.name).read_bytes())
    artifact = tmp_path / "art"
    profiles = ("--profile", str(own), "--profile", "dense-decay-10,full")
    built = CliRunner().invoke(main, ["build", str(tiny_checkpoint), "-o", str(artifact), *profiles])
    assert built.exit_code == 0, built.output
    assert SpeechLM.load(artifact).profiles == ("own-30", "dense-decay-10", "full")
