"""A job at a provider by a script: its state and its result files are what a test says."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from gemini_wire import candidate
from support import Drop, Exchange, Proxy, Reply

import llmbackend

IDS = {"openai": "batch_1", "anthropic": "msgbatch_1", "gemini": "batches/b1"}
EMPTY = Reply(200, {"content-type": "application/octet-stream"}, b"")
PAGE = Reply(200, {"content-type": "text/html"}, b"<html>Sign in</html>")
GONE = Reply.of({"error": {"message": "No such File object: it is gone", "type": "invalid_request_error"}}, 404)
BUSY = Reply.of({"error": {"message": "try later", "type": "server_error"}}, 503)


def openai_row(custom_id: Any, text: str | None) -> dict[str, Any]:
    """A result row; without a text, a request that was refused."""
    body: dict[str, Any] = {"error": {"message": "bad prompt", "code": "invalid_prompt"}}
    if text is not None:
        content = [{"type": "output_text", "text": text}]
        output = [{"type": "message", "role": "assistant", "status": "completed", "content": content}]
        body = {"object": "response", "status": "completed", "error": None, "output": output}
    response = {"status_code": 400 if text is None else 200, "request_id": "r", "body": body}
    return {"id": "x", "custom_id": custom_id, "response": response, "error": None}


def anthropic_row(custom_id: Any, text: str) -> dict[str, Any]:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
    message |= {"content": [{"type": "text", "text": text}], "usage": {"input_tokens": 1, "output_tokens": 1}}
    return {"custom_id": custom_id, "result": {"type": "succeeded", "message": message}}


def gemini_row(key: Any, text: str) -> dict[str, Any]:
    """A row that has lost its metadata, if `key` is None."""
    return {"response": candidate(text)} | ({} if key is None else {"metadata": {"key": key}})


def lines(*rows: Any) -> Reply:
    """A result file; a row that is bytes stands there as it is."""
    texts = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    return Reply(200, {"content-type": "application/octet-stream"}, b"".join(text + b"\n" for text in texts))


def openai_job(state: str = "completed", total: Any = 3, completed: Any = 2, failed: Any = 1, **fields: Any) -> Any:
    counts = {"total": total, "completed": completed, "failed": failed}
    files = {"input_file_id": "file-in", "output_file_id": "file-out", "error_file_id": "file-err"}
    return {"id": "batch_1", "object": "batch", "status": state, "request_counts": counts, **files, **fields}


def anthropic_job(**counts: Any) -> Any:
    ended = {"processing_status": "ended", "ended_at": "2026-11-22T10:31:07Z"}
    return {"id": "msgbatch_1", "type": "message_batch", **ended, "request_counts": counts}


class Script:
    """`job` is what each poll shows, or a list of that, whose last is shown again and again; `files` what each download
    gives, by the end of its path. None: the connection breaks."""

    def __init__(self, job: Any, files: dict[str, Reply | None]) -> None:
        self.job = job
        self.files = files
        self.asked: list[str] = []

    def __call__(self, exchange: Exchange) -> Reply:
        path = exchange.path.partition("?")[0]
        if exchange.method == "POST":
            return self._post(path)
        for end, replies in self.files.items():
            if path.endswith(end):
                self.asked.append(end)
                if replies is None:
                    raise Drop
                return replies
        return Reply.of(self._polled()) if "batches/" in path else GONE

    def _polled(self) -> Any:
        if not isinstance(self.job, list):
            return self.job
        return self.job.pop(0) if len(self.job) > 1 else self.job[0]

    def _post(self, path: str) -> Reply:
        if path.endswith("/files"):
            return Reply.of({"id": "file-in"})
        running = {"status": "in_progress", "output_file_id": None, "error_file_id": None, "ended_at": None}
        running |= {"processing_status": "in_progress", "done": False, "response": None}
        job: dict[str, Any] = {**self.job, **running}
        if "metadata" in job and "state" in job["metadata"]:
            job["metadata"] = {**job["metadata"], "state": "BATCH_STATE_RUNNING", "output": None}
        return Reply.of(job)


@contextlib.contextmanager
def scripted(box: Any, provider: str, job: Any, files: dict[str, Any]) -> Iterator[tuple[Script, llmbackend.Client]]:
    script = Script(job, files)
    with Proxy(box, script) as proxy:
        host = proxy.url.split("/")[2]
        base = f"http://{host}" + ("/v1" if provider == "openai" else "")
        yield script, llmbackend.client(provider, "m", api_key="k-secret-secret", base_url=base, max_retries=1)


def made(client: llmbackend.Client, inputs: list[str], **options: Any) -> llmbackend.Batch:
    """The batch as the process has it that made it."""
    return client.submit_batch(inputs, batch_options={"native": True, **options})
