"""What an engine is: tokens go in, tokens come out."""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import os
import random
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from .._core import unknown_name
from ..errors import ConfigurationError, EngineError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from .._config import GenerationConfig
    from .sampling import Sampling


class Request(NamedTuple):
    """A prompt, ready for an engine."""

    tokens: list[int]
    # The most tokens to generate: what was asked for, or what the model has room for.
    max_tokens: int


class Answer(NamedTuple):
    """What an engine made of a request."""

    # All generated tokens, the one that ended it included.
    tokens: list[int]
    # "stop" or "length".
    finish_reason: str
    # Where the engine makes the text itself, stop strings already cut; else the tokens are decoded.
    text: str | None = None


class Engine(Protocol):
    """An engine with a model. Making one checks its options; `load` does the heavy part."""

    # Requests that `generate` is given at once; memory grows with it.
    chunk: int
    # A Hugging Face tokenizer, or what behaves like one.
    tokenizer: Any
    # Tokens of prompt and answer together; None where the model has no limit.
    context: int | None

    def __init__(self, model: str, options: Mapping[str, Any]) -> None: ...

    def read(self, config: GenerationConfig) -> Sampling:
        """What `config` asks for.

        Raises:
            ConfigurationError: It contradicts itself, or asks for what this engine does not have.
        """

    def load(self) -> None: ...

    def check(self, sampling: Sampling) -> None:
        """Refuses, as a ConfigurationError, what only the loaded engine knows that it cannot do."""

    def generate(
        self, requests: Mapping[int, Request], sampling: Sampling
    ) -> Generator[tuple[int, Answer], None, None]:
        """Answers each request, in any order, each as soon as it can. It can be closed or fail at any time, and the
        engine works afterwards."""

    def close(self) -> None:
        """Gives the model's memory back. `load` may follow."""


def require(provider: str, *packages: str) -> None:
    """Refuses to go on if one of `packages` (import name) is not installed. Imports nothing."""
    for package in packages:
        try:
            is_there = importlib.util.find_spec(package) is not None
        except ValueError:  # it was put into sys.modules by hand
            is_there = sys.modules.get(package) is not None
        except ModuleNotFoundError as error:
            is_there = False
            if error.name is None or not f"{package}.".startswith(f"{error.name}."):
                raise _broken(provider, package, error) from error
        except Exception as error:
            raise _broken(provider, package, error) from error
        if not is_there:
            raise _missing(provider, package)


def import_engine(provider: str, package: str) -> Any:
    """The imported `package`, which is installed."""
    try:
        return importlib.import_module(package)
    except Exception as error:
        raise _broken(provider, package, error) from error


def _broken(provider: str, package: str, error: Exception) -> EngineError:
    what = f"{type(error).__name__}: {error}"
    hint = f". Its backend is missing: {_hint(provider)}" if "libmlx" in what else ""
    return EngineError(f"{provider}: the package {package} is installed but cannot be imported ({what}){hint}")


def _missing(provider: str, package: str) -> MissingDependencyError:
    message = f"provider '{provider}' needs the package {package}, which is not installed: {_hint(provider)}"
    return MissingDependencyError(message, name=package)


def _hint(provider: str) -> str:
    hint = f"pip install 'llmbackend[{provider}]'"
    if provider == "mlx":
        hint += " (on Linux that brings 'mlx-lm[cpu]'; with an NVIDIA GPU, pip install 'mlx-lm[cuda13]')"
    return hint


def take_options(provider: str, options: Mapping[str, Any], known: Mapping[str, type]) -> dict[str, Any]:
    """The provider options, each of its type in `known`; None where one is not given."""
    taken: dict[str, Any] = dict.fromkeys(known)
    for name in options:
        if name not in known:
            raise ConfigurationError(unknown_name(f"option of provider '{provider}':", name, list(known)))
        given = options[name]
        taken[name] = value = os.fspath(given) if isinstance(given, os.PathLike) else given
        if value is not None and not isinstance(value, known[name]):
            wanted, found = known[name].__name__, type(value).__name__
            raise ConfigurationError(f"option {name} of provider '{provider}' is a {found}; give a {wanted}")
    return taken


def model_path(provider: str, model: str) -> str:
    """`model`, its `~` resolved; what is written like a path must be a folder."""
    path = os.path.expanduser(model)
    if path.startswith((os.sep, "./", "../")) and not os.path.isdir(path):
        raise ConfigurationError(f"{provider}: model is '{model}', and there is no such folder")
    return path


def collect() -> None:
    """Gives the memory back of what nothing refers to any more."""
    gc.collect()
    if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
        torch.cuda.empty_cache()
    if mlx := sys.modules.get("mlx.core"):
        mlx.clear_cache()


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """What a load does to the global random states of Python, numpy and torch is undone."""
    undo = [partial(random.setstate, random.getstate())]
    if numpy := sys.modules.get("numpy"):
        undo.append(partial(numpy.random.set_state, numpy.random.get_state()))
    if torch := sys.modules.get("torch"):
        undo.append(partial(torch.set_rng_state, torch.get_rng_state()))
        if torch.cuda.is_initialized():
            undo.append(partial(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all()))
    try:
        yield
    finally:
        for restore in undo:
            restore()
