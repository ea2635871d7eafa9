"""`Response.to_sdk()` with Google's older package: this environment has it, the other one has the newer."""

from __future__ import annotations

import pytest

import llmbackend


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_response_of_the_older_package() -> None:
    from google.generativeai.types import GenerateContentResponse

    with llmbackend.sandbox() as box:
        response = llmbackend.client("gemini", "any", **box.options("gemini")).generate("Hello")
    native = response.to_sdk()
    assert type(native) is GenerateContentResponse
    assert native.text == response.text == "Hello"
