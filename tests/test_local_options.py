"""Local providers where no engine is: what can be found wrong before one is loaded is found then."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import run_python

import llmbackend

PACKAGES = {"transformers": ["torch", "transformers"], "vllm": ["vllm"], "mlx": ["mlx_lm", "mlx"]}
PROVIDERS = list(PACKAGES)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages that are there, and cannot be imported."""
    for package in ("torch", "transformers", "vllm", "mlx_lm", "mlx"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(f"raise OSError('lib{package}.so.1 is broken')\n")
    (tmp_path / "mlx" / "__init__.py").write_text("")
    (tmp_path / "mlx" / "core.py").write_text("raise OSError('libmlx.so.1 is broken')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [
        name for name in sys.modules if name.partition(".")[0] in ("torch", "transformers", "vllm", "mlx_lm", "mlx")
    ]:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("provider", "package", "hint"),
    [
        ("transformers", "transformers", r"pip install 'llmbackend\[transformers\]'"),
        ("transformers", "torch", r"pip install 'llmbackend\[transformers\]'"),
        ("vllm", "vllm", r"pip install 'llmbackend\[vllm\]'"),
        ("mlx", "mlx_lm", r"pip install 'llmbackend\[mlx\]' \(on Linux that brings 'mlx-lm\[cpu\]'"),
        # On Linux mlx-lm alone comes without it.
        ("mlx", "mlx.core", r"pip install 'llmbackend\[mlx\]' \(on Linux that brings 'mlx-lm\[cpu\]'"),
    ],
)
@pytest.mark.usefixtures("installed")
def test_a_missing_engine(monkeypatch: pytest.MonkeyPatch, provider: str, package: str, hint: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"'{provider}' needs the package {package}, .*{hint}") as caught:
        llmbackend.client(provider, "model")
    assert isinstance(caught.value, llmbackend.MissingDependencyError) and caught.value.name == package


@pytest.mark.parametrize(
    ("provider", "what"),
    [
        ("transformers", "transformers: the package torch is .*OSError: libtorch.so.1 is broken"),
        ("vllm", "vllm: the package vllm is .*OSError: libvllm.so.1 is broken"),
        ("mlx", "mlx: the package mlx_lm is .*OSError: libmlx_lm.so.1 is broken"),
    ],
)
@pytest.mark.usefixtures("installed")
def test_a_broken_engine(provider: str, what: str) -> None:
    client = llmbackend.client(provider, "model")
    for ask in (lambda: client.get_response("Hello"), lambda: client.submit_batch(["Hello"])):
        with pytest.raises(llmbackend.EngineError, match=what) as caught:
            ask()
        assert isinstance(caught.value.__cause__, Exception)
    client.close()


def test_a_client_imports_no_engine(installed: Path) -> None:
    code = (
        "import sys, llmbackend\n"
        "for provider in ('transformers', 'vllm', 'mlx'):\n"
        "    with llmbackend.client(provider, 'model'): pass\n"
        "assert not {'torch', 'numpy', 'transformers', 'vllm', 'mlx_lm', 'mlx.core'} & set(sys.modules)\n"
    )
    run_python(code, env={**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), *sys.path])})


WRONG_OPTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("transformers", {"pipeline_kwarg": {}}, "unknown option of provider 'transformers':.*pipeline_kwargs"),
    ("transformers", {"api_key": "sk"}, "unknown option .*api_key"),
    (
        "transformers",
        {"pipeline_kwargs": []},
        "option pipeline_kwargs of provider 'transformers' is a list; give a dict",
    ),
    ("transformers", {"model_kwargs": "x"}, "model_kwargs .* is a str; give a dict"),
    ("transformers", {"apply_chat_template": "yes"}, "apply_chat_template .* is a str; give a bool"),
    ("transformers", {"add_generation_prompt": 1}, "add_generation_prompt .* is a int; give a bool"),
    ("transformers", {"tokenizer": 3}, "tokenizer .* is a int"),
    ("transformers", {"pipeline_kwargs": {"model": "other"}}, "pipeline_kwargs.*other"),
    ("transformers", {"pipeline_kwargs": {"task": "fill-mask"}}, "fill-mask"),
    (
        "transformers",
        {"model_kwargs": {"a": 1}, "pipeline_kwargs": {"model_kwargs": {"a": 2}}},
        "give one of them",
    ),
    ("vllm", {"llm_kwarg": {}}, "unknown option of provider 'vllm':.*llm_kwargs"),
    ("vllm", {"llm_kwargs": 3}, "llm_kwargs .* is a int; give a dict"),
    ("vllm", {"llm_kwargs": {"model": "other"}}, "another model"),
    ("vllm", {"lora_path": 3}, "lora_path .* is a int; give a str"),
    ("vllm", {"lora_name": "a"}, "lora_path beside it is missing"),
    ("mlx", {"load_kwarg": {}}, "unknown option of provider 'mlx':.*load_kwargs"),
    ("mlx", {"load_kwargs": "x"}, "load_kwargs .* is a str; give a dict"),
    ("mlx", {"load_kwargs": {"path_or_hf_repo": "other"}}, "another model"),
    ("mlx", {"llm_kwargs": {}}, "unknown option .*llm_kwargs"),
]


@pytest.mark.parametrize(("provider", "options", "words"), WRONG_OPTIONS)
@pytest.mark.usefixtures("installed")
def test_a_wrong_option(provider: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(llmbackend.ConfigurationError, match=words):
        llmbackend.client(provider, "model", **options)


WRONG_CONFIGS: list[tuple[str, dict[str, Any], str]] = [
    *((provider, {"temperature": "hot"}, "temperature") for provider in PROVIDERS),
    *((provider, {"max_token": 1}, "max_tokens") for provider in PROVIDERS),
    *((provider, {"extra": {"stop": [""]}}, "stop") for provider in PROVIDERS),
    *((provider, {"extra": {"system": 3}}, "system") for provider in PROVIDERS),
    *(
        (provider, {"extra": {"temperature": 0.5}, "temperature": 0.6}, "two names for one thing")
        for provider in PROVIDERS
    ),
    ("transformers", {"max_tokens": 5, "extra": {"max_new_tokens": 6}}, "two names for one thing"),
    ("transformers", {"extra": {"do_sample": False}, "temperature": 0.5}, "do_sample"),
    ("transformers", {"extra": {"num_return_sequences": 2}}, "num_return_sequences"),
    ("vllm", {"extra": {"lora_path": "/no/such/adapter"}}, "/no/such/adapter"),
    ("mlx", {"temperature": 0.5, "extra": {"sampler": {"temp": 0.6}}}, "two names for one thing"),
    ("mlx", {"extra": {"sampler": {"temp": "hot"}}}, "hot"),
    ("mlx", {"extra": {"sampler": {"top_q": 1}}}, "Known: temp, top_p"),
]


@pytest.mark.parametrize(("provider", "config", "words"), WRONG_CONFIGS)
@pytest.mark.usefixtures("installed")
def test_a_wrong_config_needs_no_engine(provider: str, config: dict[str, Any], words: str) -> None:
    client = llmbackend.client(provider, "model")
    for ask in (lambda: client.get_response("Hello", config), lambda: client.submit_batch(["Hello"], config)):
        with pytest.raises(llmbackend.ConfigurationError, match=words):
            ask()


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.usefixtures("installed")
def test_what_local_providers_do_not_have(provider: str) -> None:
    client = llmbackend.client(provider, "model", apply_chat_template=False)
    with pytest.raises(ValueError, match=f"{provider} runs here, and local engines take no schema"):
        client.get_response("Hello", schema={"type": "object"})
    with pytest.raises(ValueError, match="take no schema"):
        client.submit_batch(["Hello"], schema={"type": "object"})
    with pytest.raises(ValueError, match=r'batch_options\["native"\] is True'):
        client.submit_batch(["Hello"], batch_options={"native": True})
    with pytest.raises(ValueError, match="has no jobs that could be opened"):
        client.get_batch("batch_1")
    with pytest.raises(ValueError, match="apply_chat_template is False"):
        client.get_response("Hello", {"extra": {"system": "Be brief"}})
    assert client.submit_batch([]).results() == []


def test_an_unknown_provider_is_told_all_names() -> None:
    with pytest.raises(llmbackend.ConfigurationError, match="openai, anthropic, gemini, transformers, vllm, mlx"):
        llmbackend.client("antropics-llm", "model")
    with pytest.raises(llmbackend.ConfigurationError, match="transformers"):
        llmbackend.client("transformer", "model")


def test_an_option_by_mistake_leaves_no_key_in_a_frame() -> None:
    with pytest.raises(llmbackend.ConfigurationError) as caught:
        llmbackend.client("transformers", "model", api_key="sk-very-secret")
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    frames = [frame for frame in told.stack if Path(frame.filename).parts[-2] in ("llmbackend", "local")]
    assert frames
    assert not any("sk-very-secret" in str(frame.locals) for frame in frames)
