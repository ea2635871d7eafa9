"""What `import llmbackend` costs and gives: no heavy module, complete names, the error tree as drawn."""

from __future__ import annotations

import inspect
import pickle
import re
import subprocess
import sys
from datetime import datetime, timezone

import pytest

import llmbackend
from llmbackend import errors

ABSENT = """
accelerate aiohttp anthropic argparse ast asyncio collections.abc dataclasses google httpx inspect json
llmbackend.local.client logging mlx mlx_lm numpy openai pyarrow pydantic pydantic_core re requests socket ssl
subprocess tempfile threading torch tqdm transformers typing urllib vllm
""".split()  # noqa: SIM905


def fresh(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_import_is_light() -> None:
    # What is there before does not count: an editable install runs code of its own at the start.
    found = fresh(
        "import sys; before = set(sys.modules); import llmbackend; print(*(set(sys.modules) - before))"
    ).split()
    assert "llmbackend._core" in found
    assert [name for name in ABSENT if name in found] == []


def test_a_client_needs_no_sdk_and_no_pydantic() -> None:
    code = """
import sys, llmbackend
with llmbackend.sandbox() as box:
    client = llmbackend.client("openai", "m", **box.options("openai"))
    assert client.get_response("Hello") and client.submit_batch(["a"]).wait(poll_interval=0.05).results()
print(*sys.modules)
"""
    found = fresh(code).split()
    assert [name for name in ("openai", "pydantic", "httpx", "requests", "asyncio") if name in found] == []


def test_names() -> None:
    assert llmbackend.__all__ == sorted(llmbackend.__all__)
    public = {
        name for name, value in vars(llmbackend).items() if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public | {"__version__"} == set(llmbackend.__all__)
    missing = [
        name for name in llmbackend.__all__ if not name.startswith("_") and not getattr(llmbackend, name).__doc__
    ]
    assert missing == []


def error_classes() -> dict[str, type[Exception]]:
    return {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.LLMBackendError)
    }


def test_every_error_is_exported() -> None:
    assert set(error_classes()) <= set(llmbackend.__all__)


def test_the_error_tree_is_as_drawn() -> None:
    drawn: dict[str, tuple[str, ...]] = {}
    parents: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.fullmatch(r"    ([│├└─ ]*)(\w+)(?:\((\w+)\))?(?:  .*)?", line)
        if not found:
            continue
        branch, name, builtin = found.groups()
        depth = len(branch) // 4
        del parents[depth:]
        bases = (parents[-1] if parents else "Exception", builtin)
        drawn[name] = tuple(base for base in bases if base)
        parents.append(name)
    assert drawn == {name: tuple(base.__name__ for base in value.__bases__) for name, value in error_classes().items()}


@pytest.mark.parametrize("name", sorted(error_classes()))
def test_errors_pickle_with_their_attributes(name: str) -> None:
    cls = error_classes()[name]
    takes_more = any("__init__" in vars(base) for base in cls.__mro__ if base in error_classes().values())
    parameters = inspect.signature(cls).parameters.values() if takes_more else ()
    given = {one.name: VALUES[one.name] for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY}
    error = cls("what happened", **given)
    for version in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, version))
        assert type(again) is cls
        assert str(again) == str(error)
        assert {key: getattr(again, key) for key in given} == given
    assert isinstance(pickle.loads(pickle.dumps(cls())), cls)


VALUES = {
    "job": 3,
    "sent_at": datetime(2026, 11, 25, 10, 52, 31, tzinfo=timezone.utc),
    "candidates": ["msgbatch_1"],
    "finish_reason": "length",
    "usage": llmbackend.Usage(input_tokens=3, output_tokens=1),
    "path": "/properties/a",
    "provider": "openai",
    "status": 429,
    "code": "slow_down",
    "message": "Slow down",
    "request_id": "req_1",
    "retry_after": 1.5,
    "body": "{}",
    "text": "I cannot",
    "response": '{"id": 1}',
    "batch_id": "batch_1",
    "results": ["a", None],
    "errors": {1: "b"},
}
