"""The places of recorded data."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
RECORDED = DATA / "result-v1"
"""A small result of schema version 1: a demo with both of its variants."""
