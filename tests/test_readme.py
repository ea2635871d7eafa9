"""Every Python example of the README runs, as it is written and in its order, against the sandbox."""

from __future__ import annotations

import ast
import re
import warnings
from pathlib import Path
from typing import Any

import llmbackend
import pytest

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
    # The namespace of a program, with the two functions that the examples leave to the reader.
    names: dict[str, Any] = {
        "__name__": "readme",
        "save_to_database": database.append,
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
    assert "fetch_batch_results" in out
    assert "'expired'" in out
    assert "'succeeded'" in out


def test_links_and_named_things_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
    for name in re.findall(r"`(\w+Error)`", README):
        assert hasattr(llmbackend, name) or name in dir(__builtins__) or name in BUILTIN_ERRORS, name
    verbs = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"^make (\w+)", README, re.MULTILINE)) <= verbs


BUILTIN_ERRORS = {"ValueError", "ImportError", "RuntimeError", "ConnectionError", "TimeoutError"}


def test_the_error_table_names_every_error() -> None:
    section = README.partition("## Errors")[2].partition("\n## ")[0]
    missing = [name for name in llmbackend.__all__ if name.endswith("Error") and f"`{name}" not in section]
    assert missing == []


def test_the_faults_that_are_named_exist() -> None:
    listed = README.partition("Some of the faults:")[2].partition("An unknown name")[0]
    with llmbackend.sandbox(faults=re.findall(r"`(\w+)`", listed)):
        pass
