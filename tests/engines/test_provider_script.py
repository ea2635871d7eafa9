"""`scripts/run_provider_examples.py` on the local engines, as a user without a model of his own runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "run_provider_examples.py"
EXAMPLES = ["plain call", "system prompt", "config", "batch", "conversation"]
NUMBERS = "one two three four five six seven eight nine ten"


@pytest.mark.timeout(300)  # a process of its own imports the engines once more
def test_tiny_models_on_all_three(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--providers", "transformers,vllm,mlx", "--make-tiny-models", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    # The engines log elsewhere: nothing but the table.
    header, *lines, summary = done.stdout.splitlines()
    assert header.startswith("provider ")
    assert summary == "15 ok, 0 failed, 0 pending, 0 skipped"
    rows = [re.split(r"\s{2,}", line) for line in lines]
    assert [row[0] for row in rows] == ["transformers"] * 5 + ["vllm"] * 5 + ["mlx"] * 5
    assert [row[1] for row in rows] == EXAMPLES * 3
    for provider_rows in (rows[:5], rows[5:10], rows[10:]):
        answers = [row[4] for row in provider_rows]
        assert answers[0] == answers[1] == answers[4] == NUMBERS
        assert answers[2] == NUMBERS.partition(" six")[0]  # the stop text
        assert answers[3].startswith(f"{NUMBERS} | one")
