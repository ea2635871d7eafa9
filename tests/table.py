"""The three remote providers, side by side: what their tables of tests share."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from support import POLL, Proxy, prompts

import llmbackend


@dataclass(frozen=True)
class Provider:
    name: str
    model: str
    # Where a single call and the making of a job go to, as a filter for the sandbox's faults.
    call: str
    create: str

    def client(self, box: Any, **options: Any) -> llmbackend.Client:
        return llmbackend.client(self.name, self.model, **{**box.options(self.name), **options})

    def through(self, proxy: Proxy, box: Any, **options: Any) -> llmbackend.Client:
        """A client that goes through `proxy`, in front of `box`."""
        options = {"api_key": "sandbox", "base_url": self.base_url(proxy, box), **options}
        return llmbackend.client(self.name, self.model, **options)

    def base_url(self, proxy: Proxy, box: Any) -> str:
        """Where this provider is behind `proxy`, in front of `box`."""
        host = urllib.parse.urlsplit(proxy.url).netloc
        return f"http://{host}{urllib.parse.urlsplit(box.url(self.name)).path}"

    def calls(self, box: Any) -> list[int]:
        """The statuses of the single calls so far."""
        return self._posts(box, self.call)

    def creates(self, box: Any) -> list[int]:
        """The statuses of the requests so far that make a job."""
        return self._posts(box, self.create)

    @staticmethod
    def _posts(box: Any, end: str) -> list[int]:
        return [status for method, path, status in box.requests() if method == "POST" and path.endswith(end)]


OPENAI = Provider("openai", "gpt-4o-mini", "/v1/responses", "/v1/batches")
ANTHROPIC = Provider("anthropic", "claude-3-5-sonnet-latest", "/v1/messages", "/v1/messages/batches")
GEMINI = Provider("gemini", "gemini-1.5-flash", ":generateContent", ":batchGenerateContent")
ALL = [OPENAI, ANTHROPIC, GEMINI]

# Its raw state where a job has come to its end.
DONE = {"openai": "completed", "anthropic": "ended", "gemini": "JOB_STATE_SUCCEEDED"}

NATIVE = {"native": True}
COUNT = 9


class Echo(BaseModel):
    said: str
    count: int


def submitted(client: Any, count: int = COUNT, **options: Any) -> Any:
    """A job of `count` prompts."""
    batch_options = NATIVE | options.pop("batch_options", {})
    return client.submit_batch(prompts(count), batch_options=batch_options, **options)


def ended(client: Any, count: int = COUNT, **options: Any) -> Any:
    """A job of `count` prompts that has come to its end, whichever that is."""
    batch = submitted(client, count, **options)
    try:
        batch.wait(POLL)
    except llmbackend.BatchFailedError:
        assert batch.normalized_status() in ("failed", "cancelled")
    return batch


def jobs(provider: Provider, box: Any) -> list[str]:
    """The ids of all jobs in the sandbox."""
    base = box.url(provider.name)
    url, list_field, id_field = {
        "openai": (f"{base}/batches?limit=100", "data", "id"),
        "anthropic": (f"{base}/v1/messages/batches?limit=100", "data", "id"),
        "gemini": (f"{base}/v1beta/batches?pageSize=100", "operations", "name"),
    }[provider.name]
    headers = {"x-goog-api-key": "k"} if provider.name == "gemini" else {"authorization": "Bearer k"}
    request = urllib.request.Request(url, headers=headers | {"anthropic-version": "2023-06-01"})
    with urllib.request.urlopen(request) as reply:
        return [job[id_field] for job in json.loads(reply.read()).get(list_field, [])]
