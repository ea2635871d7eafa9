"""What the tests of Gemini's wire share: its replies, and clients of a recorder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import llmbackend
from recorder import Recorder, Reply

FIXTURES = Path(__file__).parent / "fixtures" / "gemini"
VARIABLES = ("GOOGLE_API_KEY", "GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL", "GOOGLE_GENAI_API_VERSION")
# Additional properties cannot be said in OpenAPI's schema: a batch with it goes by file.
DICT_SCHEMA = {"type": "object", "additionalProperties": {"type": "integer"}}


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FIXTURES / name).read_text().split("\n") if line]


def candidate(*parts: Any, reason: str | None = "STOP", **fields: Any) -> dict[str, Any]:
    """A GenerateContentResponse with one candidate; a part that is a str is a text."""
    content = {"parts": [{"text": part} if isinstance(part, str) else part for part in parts], "role": "model"}
    end = {} if reason is None else {"finishReason": reason}
    first = {"content": content, **end, "index": 0}
    return {"candidates": [first], "modelVersion": "m-1", "responseId": "r1", **fields}


def client(recorder: Recorder, model: str = "gemini-2.5-flash", **options: Any) -> llmbackend.Client:
    return llmbackend.Client("gemini", model, **{"api_key": "TESTKEY", "base_url": recorder.root, **options})


def operation(state: str | None = "SUCCEEDED", *, name: str = "batches/b1", **fields: Any) -> dict[str, Any]:
    """A job; `fields` go into its metadata, but for `done`, `error` and `response`."""
    outer = {key: fields.pop(key) for key in ("done", "error", "response") if key in fields}
    kind = "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch"
    named = {} if state is None else {"state": state if "STATE" in state else f"BATCH_STATE_{state}"}
    return {"name": name, "metadata": {"@type": kind, "model": "models/m", "name": name, **named, **fields}, **outer}


def inlined(*items: dict[str, Any]) -> dict[str, Any]:
    return {"inlinedResponses": {"inlinedResponses": list(items)}}


def row(key: str, text: str) -> dict[str, Any]:
    """A row of inline results."""
    return {"response": candidate(text), "metadata": {"key": key}}


def error(status: int, message: str = "m", name: str = "S", details: Any = None, **reply: Any) -> Reply:
    said = {"code": status, "message": message, "status": name} | ({} if details is None else {"details": details})
    return Reply({"error": said}, status=status, **reply)
