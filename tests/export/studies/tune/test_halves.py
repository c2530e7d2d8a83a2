"""The two halves of the clips."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastadasp.evaluation.clips.clip import Clip, ClipSet
from fastadasp.export.studies.tune.halves import halves_of
from fastadasp.profiles.errors import ClipsError


def clip_set(*audio, folder=Path("clips")):
    clips = [
        Clip(f"{i}", i, name, folder / name, "qa", ("yes",), f"question {i}") for i, name in enumerate(audio)
    ]
    return ClipSet(Path("clips.jsonl"), "qa", tuple(clips))


@given(st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=30), st.integers(0, 99))
def test_every_clip_is_in_one_half_and_all_clips_of_a_recording_in_the_same(audio, seed):
    clips = clip_set(*audio)
    if len(set(audio)) < 2:
        return
    halves = halves_of(clips, seed)
    search, held_out = halves.search.clips, halves.held_out.clips
    assert sorted(search + held_out, key=lambda clip: clip.line) == list(clips.clips)
    assert list(search) == sorted(search, key=lambda clip: clip.line)
    assert not {clip.path for clip in search} & {clip.path for clip in held_out}
    assert len({clip.path for clip in held_out}) == len(set(audio)) // 2
    assert halves == halves_of(clips, seed)


def test_another_seed_draws_other_halves():
    clips = clip_set(*"abcdefgh")
    assert len({halves_of(clips, seed).held_out.clips for seed in range(9)}) > 1


def test_a_recording_is_the_same_by_whatever_name(tmp_path):
    (tmp_path / "sub").mkdir()
    for name, content in (("a", b"one"), ("b", b"other"), ("copy", b"one")):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "link").symlink_to("a")
    clips = clip_set("a", "b", "link", "sub/../a", "copy", folder=tmp_path)
    for seed in range(9):
        halves = halves_of(clips, seed)
        assert sorted(len(half.clips) for half in (halves.search, halves.held_out)) == [1, 4]
    with pytest.raises(ClipsError, match="one recording has no halves"):
        halves_of(clip_set("a", "copy", folder=tmp_path), 0)


def test_one_recording_has_no_halves():
    with pytest.raises(ClipsError, match="one recording has no halves"):
        halves_of(clip_set("a", "a"), 0)
