"""What the three providers reply, side by side: one reply, read as the answer of a single call, of an immediate batch
and of a job."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gemini_wire
from recorder import Recorder, Reply

import llmbackend


def openai_message(text: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": text}],
        **fields,
    }


def openai_reply(*items: Any, **fields: Any) -> dict[str, Any]:
    """A str is the text of a message with an id of its own."""
    output = [openai_message(item, id=f"msg_{n}") if isinstance(item, str) else item for n, item in enumerate(items)]
    usage = {"input_tokens": 3, "output_tokens": 2}
    return {"id": "r", "object": "response", "status": "completed", "output": output, "usage": usage, **fields}


def anthropic_reply(*blocks: Any, **fields: Any) -> dict[str, Any]:
    """A str is the text of a block."""
    content = [{"type": "text", "text": block} if isinstance(block, str) else block for block in blocks]
    usage = {"input_tokens": 3, "output_tokens": 2}
    return {"id": "r", "type": "message", "content": content, "stop_reason": "end_turn", "usage": usage, **fields}


def gemini_reply(*parts: Any, **fields: Any) -> dict[str, Any]:
    """A str is the text of a part."""
    usage = {"promptTokenCount": 3, "candidatesTokenCount": 2}
    return gemini_wire.candidate(*parts, **{"usageMetadata": usage, **fields})


@dataclass(frozen=True)
class Wire:
    name: str
    # The reply that says these texts, each in a message (or block, or part) of its own.
    reply: Callable[..., dict[str, Any]]

    def client(self, recorder: Recorder, **options: Any) -> llmbackend.Client:
        base_url = recorder.url if self.name == "openai" else recorder.root
        options = {"api_key": "test-key-1", "base_url": base_url, **options}
        return llmbackend.Client(self.name, "m", **options)

    def single(self, recorder: Recorder, body: Any, schema: Any = None, **config: Any) -> llmbackend.Response:
        play(recorder, Reply(body))
        return self.client(recorder, max_retries=0).generate("x", {"extra": config}, schema)

    def immediate(self, recorder: Recorder, body: Any, schema: Any = None, **config: Any) -> llmbackend.BatchItem:
        play(recorder, Reply(body))
        client = self.client(recorder, max_retries=0)
        batch = client.submit_batch(["x"], {"extra": config}, schema, batch_options={"native": False})
        [item] = batch.items()
        return item

    def job(self, recorder: Recorder, body: Any, schema: Any = None, **job: Any) -> llmbackend.BatchItem:
        """The item of a job with one row, read by its id."""
        play(recorder, *self.job_replies(body, **job))
        batch_id = "batches/b1" if self.name == "gemini" else "b1"
        [item] = self.client(recorder, max_retries=0).get_batch(batch_id, schema).items()
        return item

    def job_replies(self, body: Any, **job: Any) -> list[Reply]:
        if self.name == "openai":
            counts = {"total": 1, "completed": 1, "failed": 0}
            ended = {"id": "b1", "status": "completed", "output_file_id": "f1", "request_counts": counts, **job}
            row = {"custom_id": "llmb-000000", "response": {"status_code": 200, "body": body}, "error": None}
            return [Reply(ended), Reply(json.dumps(row) + "\n")]
        if self.name == "anthropic":
            counts = {"succeeded": 1, "errored": 0, "canceled": 0, "expired": 0, "processing": 0}
            ended = {
                "id": "b1",
                "processing_status": "ended",
                "ended_at": "2026-11-22T10:31:07Z",
                "request_counts": counts,
            }
            row = {"custom_id": "llmb-000000", "result": {"type": "succeeded", "message": body}}
            return [Reply(ended | job), Reply(json.dumps(row) + "\n")]
        rows = gemini_wire.inlined({"response": body, "metadata": {"key": "llmb-000000"}})
        return [Reply(gemini_wire.operation(done=True, response=rows, batchStats={"requestCount": "1"}, **job))]


OPENAI = Wire("openai", openai_reply)
ANTHROPIC = Wire("anthropic", anthropic_reply)
GEMINI = Wire("gemini", gemini_reply)
ALL = [OPENAI, ANTHROPIC, GEMINI]


def play(recorder: Recorder, *replies: Reply) -> None:
    recorder.requests.clear()
    recorder.replies = list(replies)
