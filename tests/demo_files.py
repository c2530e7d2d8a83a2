"""Where the demo lies."""

from pathlib import Path

DEMO = Path(__file__).parent.parent / "demo"
CLIPS = DEMO / "clips" / "transcripts.jsonl"
