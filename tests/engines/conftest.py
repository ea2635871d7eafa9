"""Tiny models, and an environment in which real engines run small, quiet and offline.

An engine that is not there fails these tests: `make test-engines` installs all of them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# Before any engine is imported.
os.environ |= {
    "OMP_NUM_THREADS": "1",  # with more, each spins while another process has the core
    "TOKENIZERS_PARALLELISM": "false",  # else a fork warns
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in this process
}

# The engines are thousands of modules: whatever this machine is set up for, they are compiled once, not once a process.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import small  # noqa: E402
import tiny_models  # noqa: E402

import llmbackend  # noqa: E402

ENGINES = "torch|transformers|accelerate|vllm|mlx|mlx_lm"


def pytest_configure(config: pytest.Config) -> None:
    # What the engines warn of among themselves is theirs. What llmbackend causes, by a stack level that points to it,
    # stays an error.
    config.addinivalue_line("filterwarnings", rf"ignore:::({ENGINES})(\.|$)")
    # Raised by no module: vLLM's extensions are made with SWIG.
    config.addinivalue_line("filterwarnings", r"ignore:builtin type [Ss]wig\w+ has no __module__:DeprecationWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # Whatever test comes first waits until its engine or server is there.
        item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def random_model(models: Path) -> str:
    """A model whose answers are gibberish that depends on the whole prompt."""
    return str(tiny_models.make_random(models / "random"))


@pytest.fixture(scope="session")
def scripted_model(models: Path) -> str:
    """A model that answers any prompt in its chat template with `tiny_models.SCRIPT`."""
    return str(tiny_models.make_scripted(models / "scripted"))


@pytest.fixture(scope="session")
def lora(models: Path, random_model: str) -> str:
    """An adapter for `random_model`."""
    return str(tiny_models.make_lora(models / "lora", random_model))


@pytest.fixture(scope="session")
def no_template_model(models: Path) -> str:
    """`random_model` without a chat template."""
    return str(tiny_models.make_random(models / "no-template", chat_template=False))


@pytest.fixture(scope="session")
def no_pad_model(models: Path) -> str:
    """`random_model` without a token for padding."""
    return str(tiny_models.make_random(models / "no-pad", pad_token=False))


@pytest.fixture(scope="session", params=["transformers", "vllm", "mlx"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def clients() -> small.Clients:
    """Clients that tests share, so that a model is loaded once. The end of the process frees them all."""
    return small.Clients()


@pytest.fixture(scope="session")
def random_client(clients: small.Clients, provider: str, random_model: str) -> llmbackend.Client:
    return clients.of(provider, random_model)


@pytest.fixture(scope="session")
def chat_client(clients: small.Clients, provider: str, scripted_model: str) -> llmbackend.Client:
    """It answers every prompt with `tiny_models.SCRIPT`."""
    return clients.of(provider, scripted_model, apply_chat_template=True)
