"""Result files of every kind, as the commands write them; each run is made once for all tests."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from demo_files import CLIPS, DEMO
from fastadasp.export.cli import main

PROMPT = ("--prompt", "<asr>", "--max-new-tokens", "16", "--resamples", "20")


def run(*args: object) -> Result:
    """A command within this process; whatever is no exit is raised."""
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="session")
def command_lines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """For each kind of result file a command line that makes one; a clip of `eval` fails."""
    folder = tmp_path_factory.mktemp("results") / "a folder"
    folder.mkdir()
    artifact, clips, sound = folder / "ART", *_clip_lists(folder)
    profiles = ("full", "--profile", "dense-constant-50")
    assert run("build", DEMO / "model", "-o", artifact, "--row-maps", "--profile", *profiles).exit_code == 0
    model, small = DEMO / "model", ("--manifest", sound, *PROMPT)
    counts = ("--beams", "1,2", "--runs", 1, "--warmup", 0, "--new-tokens", 4)
    loads = ("--concurrency", "1,2", "--rate", 50, "--audio-seconds", "1,2")
    counts_of_load = ("--requests", 4, "--warmup", 1, "--new-tokens", 4, "--threads", 1)
    methods = ("--methods", "weighted_merge,random_merge", "--schedules", "constant", "--seeds", 2)
    search = ("--schedules", "constant", "--start-layers", 2, "--positions", "compact")
    timed = ("--objective", "latency", "--runs", 1, "--warmup", 0, "-o", folder / "tuned.toml")
    lines = (
        ("eval", artifact, "--manifest", clips, *PROMPT, "-o", folder / "eval.json"),
        ("bench", artifact, "--audio-seconds", "1,2,600", *counts, "-o", folder / "results.json"),
        ("bench", artifact, *loads, *counts_of_load, "-o", folder / "load.json"),
        ("select-layer", model, *small, "--flops", 30, "--accuracy", "--json", folder / "layers.json"),
        ("compare", model, *small, *methods, "--flops", "20,99", "-o", folder / "compare.json"),
        ("tune", model, *small, "--max-loss", 5, *search, *timed, "--json", folder / "tune.json"),
    )
    plan = ("plan", model, "--device", "a100,t4", "--audio-seconds", "30,600", "--published")
    asked = ("run", artifact, CLIPS.parent / "dates-01.flac", "--profile", profiles[-1], "--prompt", "<asr>")
    lines = (*lines, (*plan, "-o", folder / "plan.json"), (*asked, "--map", folder / "map.json"))
    others = {"--rate": "bench-load", "--map": "row-map"}
    kinds = (next((others[word] for word in words if word in others), str(words[0])) for words in lines)
    return {
        kind: shlex.join(("fastadasp-export", *map(str, words)))
        for kind, words in zip(kinds, lines, strict=True)
    }


@pytest.fixture(scope="session")
def real_files(command_lines: dict[str, str]) -> dict[str, Path]:
    """What those command lines leave."""
    found = {}
    for kind, line in command_lines.items():
        words = shlex.split(line)[1:]
        failing = {"eval": (1,), "tune": (0, 1)}  # a clip fails; whatever the demo's model says
        assert run(*words).exit_code in failing.get(kind, (0,)), line
        found[kind] = Path(words[-1])
    return found


def _clip_lists(folder: Path) -> tuple[Path, Path]:
    """Three clips and a broken one, and the three alone."""
    lines = CLIPS.read_text("utf-8").splitlines()[:3]
    for line in lines:
        shutil.copy(CLIPS.parent / json.loads(line)["audio"], folder)
    (folder / "broken.wav").write_bytes(b"no audio")
    broken = {"audio": "broken.wav", "text": "nothing", "task": "asr"}
    (folder / "clips.jsonl").write_text("\n".join([*lines, json.dumps(broken)]), "utf-8")
    (folder / "sound.jsonl").write_text("\n".join(lines), "utf-8")
    return folder / "clips.jsonl", folder / "sound.jsonl"
