"""The examples of the README and of docs/ that take a local engine run on it: only the models are others, tiny ones."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from documents import DOCUMENTS, ROOT, blocks, run
from tiny_models import SCRIPT

import llmbackend

# Unless told, vLLM takes nearly all of the memory and compiles for half a minute.
SMALL_VLLM = '"enforce_eager": True, "kv_cache_memory_bytes": 64 << 20, "max_num_seqs": 32'


def shown(document: Path, models: dict[str, str]) -> dict[str, Any]:
    """Runs the local examples of a document, and frees their engines."""

    def with_tiny_models(source: str) -> str:
        for name, folder in models.items():
            source = source.replace(f'"{name}"', repr(folder))
        return source.replace("llm_kwargs={", f"llm_kwargs={{{SMALL_VLLM}, ")

    names = run((block for block in blocks(document) if block.needs_engine), with_tiny_models, llmbackend=llmbackend)
    for value in names.values():
        if isinstance(value, llmbackend.Client):
            value.close()
    return names


@pytest.fixture
def tiny(scripted_model: str, random_model: str) -> dict[str, str]:
    """The tiny model in place of each model of the documents. The last has no chat template in life."""
    return {
        "mistralai/Mistral-7B-Instruct-v0.3": scripted_model,
        "mlx-community/Llama-3.2-3B-Instruct-4bit": scripted_model,
        "facebook/opt-125m": random_model,
    }


def test_every_model_of_the_documents_has_a_tiny_one(tiny: dict[str, str]) -> None:
    local = [block.source for document in DOCUMENTS for block in blocks(document) if block.needs_engine]
    assert len(local) >= 9
    assert set(re.findall(r'"([\w-]+/[\w.-]+)"', "".join(local))) == {*tiny, "adapters/support", "adapters/sales"}


@pytest.mark.timeout(300)
def test_the_local_examples_of_the_readme_run(tiny: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    names = shown(ROOT / "README.md", tiny)
    assert names["response"] == SCRIPT
    out = capsys.readouterr().out
    # The batches of Transformers and of MLX.
    assert out.count(f"[{SCRIPT!r}, {SCRIPT!r}]") == 2


@pytest.mark.timeout(300)
def test_the_examples_of_local_engines_run(
    tiny: dict[str, str],
    lora: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("support", "sales"):
        shutil.copytree(lora, tmp_path / "adapters" / name)
    names = shown(ROOT / "docs/local-engines.md", tiny)
    assert names["answer"].text == SCRIPT
    out = capsys.readouterr().out
    assert f"0 succeeded {SCRIPT}\n1 failed inputs[1]: the prompt is empty" in out
    assert "['str', 'ConfigurationError', 'str']" in out
    assert f"[{SCRIPT!r}, {SCRIPT!r}]" in out
