"""The README and docs/: every remote Python example runs against the sandbox, and what they name exists.

The examples with a local engine run in tests/engines/test_readme.py.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import DOCUMENTS, ROOT, blocks, run

import llmbackend

TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in DOCUMENTS}
README = TEXTS["README.md"]
ALL = "\n".join(TEXTS.values())


def test_the_first_code_comes_early() -> None:
    assert README.partition("```python")[0].count("\n") < 30
    assert len(blocks(DOCUMENTS[0])) > 20


def test_the_readme_is_read_in_ten_minutes() -> None:
    assert len(README.split()) < 2900


def test_every_python_block_is_seen() -> None:
    assert sum(len(blocks(document)) for document in DOCUMENTS) == len(re.findall(r"^ *```py(?:thon)?$", ALL, re.M))
    languages = set(re.findall(r"^ *```(\w+)", ALL, re.MULTILINE))
    assert languages == {"python", "bash", "pyi", "text"}


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A sandbox that only the environment variables know of."""
    monkeypatch.chdir(tmp_path)
    with llmbackend.sandbox() as box, warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, value in box.environment().items():
            monkeypatch.setenv(name, value)
        yield


@pytest.mark.usefixtures("everywhere")
def test_every_example_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names = run(block for block in blocks(DOCUMENTS[0]) if not block.needs_engine)
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


EXPECTED = {
    "docs/api.md": [],
    "docs/local-engines.md": [],
    "docs/providers.md": ["['Explain AI', 'Explain ML']\n", "['One', 'Two', 'Three']\n"],
    "docs/sandbox.md": ["fetch_batch_results", "'expired'", "'succeeded'", "('GET', "],
}


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("name", sorted(TEXTS.keys() - {"README.md"}))
def test_every_example_of_the_docs_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(block for block in blocks(ROOT / name) if not block.needs_engine)
    out = capsys.readouterr().out
    assert [said for said in EXPECTED[name] if said not in out] == []


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_links_lead_somewhere(name: str) -> None:
    for target, _, anchor in (link.partition("#") for link in re.findall(r"\]\(([^)]+)\)", TEXTS[name])):
        if target.startswith("https://"):
            continue
        path = ((ROOT / name).parent / target).resolve() if target else ROOT / name
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), f"{target}#{anchor}"


def anchors(text: str) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


BUILTIN_ERRORS = {"ValueError", "ImportError", "RuntimeError", "ConnectionError", "TimeoutError"}


def test_named_things_exist() -> None:
    for name in re.findall(r"`(\w+(?:Error|Warning))`", ALL):
        assert hasattr(llmbackend, name) or name in BUILTIN_ERRORS | {"UserWarning"}, name
    verbs = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"^make ([\w-]+)", README, re.MULTILINE)) <= verbs
    extras = set(re.findall(r"^([\w-]+) = \[", pyproject("project.optional-dependencies"), re.MULTILINE))
    section = README.partition("## Installation")[2].partition("\n## ")[0]
    assert {name for name in extras if f"[{name}]" not in section} == set()


def pyproject(table: str) -> str:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return text.partition(f"[{table}]\n")[2].partition("\n[")[0]


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


def test_the_faults_are_those_of_the_sandbox() -> None:
    table = TEXTS["docs/sandbox.md"].partition("## Faults")[2].partition("| where |")[2]
    listed = re.findall(r"`(\w+)`", table)
    with pytest.raises(llmbackend.ConfigurationError) as caught:
        llmbackend.sandbox(faults=["no such fault"])
    assert listed == str(caught.value).partition("Known faults: ")[2].split(", ")
