"""A sandbox and a client of it for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

import llmbackend

# These need engines of gigabytes, in an environment of their own: `make test-engines`.
collect_ignore = ["engines"]


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine is set up for, no test talks to a provider."""
    for name in os.environ:
        if name.startswith(("OPENAI_", "ANTHROPIC_", "GEMINI_", "GOOGLE_")):
            monkeypatch.delenv(name)


@pytest.fixture
def box() -> Iterator[llmbackend.Sandbox]:
    """A sandbox in which a job takes some milliseconds."""
    with llmbackend.sandbox(speed=20_000) as box:
        yield box


@pytest.fixture
def short_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """The minute that a job whose create was not answered is searched for takes 62 ms in clients made from now on."""
    monkeypatch.setenv("LLMBACKEND_TEST_TIMESCALE", "0.001")


@pytest.fixture
def client(box: Any) -> llmbackend.Client:
    return llmbackend.client("openai", "gpt-4o-mini", **box.options("openai"))
