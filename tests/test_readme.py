"""Every Python example of the README runs, as it is written and in its order, against the sandbox."""

from __future__ import annotations

import ast
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

import llmbackend

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [
    (README[: found.start()].count("\n") + 2, found.group(1))
    for found in re.finditer(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
]


def test_the_first_code_comes_early() -> None:
    assert README.partition("```")[0].count("\n") < 30
    assert len(BLOCKS) > 12


def test_every_example_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    database: list[str] = []
    # The namespace of a program, with the functions that the examples leave to the reader.
    names: dict[str, Any] = {
        "__name__": "readme",
        "save_to_database": database.append,
        "save_batch_id": database.append,
        "load_from_database": lambda: database[-1],
    }
    with llmbackend.sandbox() as box, warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, value in box.environment().items():
            monkeypatch.setenv(name, value)
        for line, source in BLOCKS:
            # Errors in an example name the README's line.
            tree = ast.increment_lineno(ast.parse(source), line - 1)
            exec(compile(tree, str(ROOT / "README.md"), "exec"), names)
    assert len(database) == 1
    assert names["results"] == [f"Prompt {i}" for i in (1, 2, 3)]
    assert isinstance(names["review"], names["MovieReview"])
    assert names["analysis"]["sentiment"] in ("positive", "negative", "neutral")
    assert {type(names["lat"]), type(names["lon"])} <= {int, float}
    out = capsys.readouterr().out
    assert "Write a haiku about oceans." in out
    assert "Number 999" in out
    assert "Batch status: completed" in out
    assert "Extract product info: Sony" in out
    for provider in ("openai", "anthropic", "gemini"):
        assert f"\n{provider}:\nExplain photosynthesis in one sentence.\n" in out
    assert "✓ Got 3 results" in out
    assert "✗" not in out
    assert names["response"] == "Explain machine learning"
    assert names["products"][1].name.startswith("Extract product info: Sony")
    assert "['Prompt 1', 'Prompt 2']\n" * 2 in out
    assert "fetch_batch_results" in out
    assert "'expired'" in out
    assert "'succeeded'" in out


def test_links_and_named_things_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
    for name in re.findall(r"`(\w+Error)`", README):
        assert hasattr(llmbackend, name) or name in dir(__builtins__) or name in BUILTIN_ERRORS, name
    verbs = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"^make ([\w-]+)", README, re.MULTILINE)) <= verbs


def test_the_limits_are_those_of_the_code() -> None:
    table = README.partition("| one job holds |")[2].partition("\n\n")[0]
    limits = {
        "openai": ("rows: 50_000, bytes: 200_000_000", "50,000 inputs, 200 MB"),
        "anthropic": ("rows: 100_000, bytes: 256_000_000", "100,000 inputs, 256 MB"),
        "gemini": ("bytes: 2_000_000_000", "2 GB"),
    }
    for provider, (in_code, in_words) in limits.items():
        code = (ROOT / f"src/providers/{provider}/batches.rs").read_text(encoding="utf-8")
        assert in_code in code
        assert in_words in next(line for line in table.splitlines() if provider in line.lower())


def test_the_environment_variables_are_those_of_the_code() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src/providers").rglob("*.rs"))
    read = set(re.findall(r'"((?:OPENAI|ANTHROPIC|GOOGLE|GEMINI)_[A-Z_]+)"', code))
    assert read == set(re.findall(r"`((?:OPENAI|ANTHROPIC|GOOGLE|GEMINI)_[A-Z_]+)`", README))


BUILTIN_ERRORS = {"ValueError", "ImportError", "RuntimeError", "ConnectionError", "TimeoutError"}


def test_the_error_table_names_every_error() -> None:
    section = README.partition("## Errors")[2].partition("\n## ")[0]
    missing = [name for name in llmbackend.__all__ if name.endswith("Error") and f"`{name}" not in section]
    assert missing == []


def test_the_faults_that_are_named_exist() -> None:
    listed = README.partition("Some of the faults:")[2].partition("An unknown name")[0]
    with llmbackend.sandbox(faults=re.findall(r"`(\w+)`", listed)):
        pass
