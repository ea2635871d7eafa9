"""What type checkers see of the package: `typing_user.py` by mypy and by pyright, both strict, from a user's folder."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import types
from pathlib import Path

import pytest
from documents import ROOT

import llmbackend
from llmbackend import Batch, BatchItem, CompletedBatch, Response, StructuredOutput

USER = ROOT / "tests/typing_user.py"


def complaints(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=50)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def mypy(file: Path, folder: Path) -> str:
    cache = str(ROOT / ".mypy_cache/typing_user")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", cache, str(file)]
    return complaints(command, folder)


def pyright(file: Path, folder: Path) -> str:
    # basedpyright is pyright with a node of its own; these settings are those of pyright's strict mode.
    settings = {
        "typeCheckingMode": "strict",
        "enableExperimentalFeatures": False,
        "enableTypeIgnoreComments": True,
        "reportUnnecessaryTypeIgnoreComment": "error",
        "include": [str(file)],
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    return complaints([sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable], folder)


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_checker_sees_what_a_user_gets_and_finds_what_is_wrong(checker: object, tmp_path: Path) -> None:
    assert callable(checker)
    assert checker(USER, tmp_path) == ""


@pytest.mark.parametrize(
    "wrong",
    [
        'assert_type(client.get_response("a", schema=Model), str)',
        'assert_type(client.submit_batch(["a"], schema=Model).results(), list[Any])',
        'client.get_response("a", schema=Model).titel',
    ],
)
def test_mypy_is_heard_when_a_line_is_wrong(wrong: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong_user.py"
    text = USER.read_text(encoding="utf-8").replace(
        "def answers(", f"def wrong(client: Client) -> None:\n    {wrong}\n\n\ndef answers("
    )
    file.write_text(text, encoding="utf-8")
    assert "Found 1 error" in mypy(file, tmp_path)


@pytest.mark.parametrize("cls", [Batch, BatchItem, CompletedBatch, Response, StructuredOutput])
def test_the_generic_classes_can_be_subscripted_at_runtime(cls: type) -> None:
    alias = cls[str]  # type: ignore[index]
    assert isinstance(alias, types.GenericAlias)
    assert alias.__origin__ is cls
    assert alias.__args__ == (str,)
    assert pickle.loads(pickle.dumps(alias)) == alias
    assert issubclass(CompletedBatch, Batch)


def test_a_subscripted_class_makes_its_instances() -> None:
    shape = StructuredOutput[int](pydantic_model=int)
    assert type(shape) is StructuredOutput
    assert shape.read("3") == 3
    with pytest.raises(llmbackend.ConfigurationError):
        StructuredOutput[int]()  # type: ignore[call-overload]
    assert BatchItem[str](0, "a", "succeeded", "text").value == "text"
