"""What the README tells a user to type works as it is written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from fastadasp.export.cli import main
from fastadasp.profiles import parse_profile

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


COMMANDS = [
    line for block in blocks("sh") for line in block.splitlines() if line.startswith("fastadasp-export ")
]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty folder that sees the demo, as a fresh clone would."""
    (tmp_path / "demo").symlink_to(ROOT / "demo")
    (profile,) = blocks("toml")
    (tmp_path / "mine.toml").write_text(profile)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("workplace")
def test_every_command_of_the_readme_runs_in_order():
    assert len(COMMANDS) > 5
    for line in COMMANDS:
        result = CliRunner().invoke(main, shlex.split(line)[1:])
        verdicts = (0, 1) if " tune " in line else (0,)  # the demo's clips may say no
        assert result.exit_code in verdicts, f"{line}\n{result.output}"


@pytest.mark.usefixtures("workplace")
def test_the_python_of_the_readme_prints_the_transcript_and_the_figures(capsys):
    build = next(line for line in COMMANDS if " build " in line)
    assert CliRunner().invoke(main, shlex.split(build)[1:]).exit_code == 0
    programs = blocks("python")
    for program in programs:
        exec(compile(program, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "friday march" in printed
    assert "dense-constant-50 WER " in printed


def test_the_profile_of_the_readme_is_valid():
    (profile,) = blocks("toml")
    assert parse_profile(profile, "mine", "README.md").method == "weighted_merge"


def test_every_file_that_the_readme_links_to_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert all((ROOT / link).exists() for link in links if "://" not in link)
