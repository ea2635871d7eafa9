"""A provider in trouble, request by request: nothing is lost, and nothing that costs money is sent twice."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest
from support import (
    POLL,
    Drop,
    Exchange,
    Proxy,
    Reply,
    gets,
    is_create,
    jobs,
    posts,
    prompts,
)
from table import ALL, Provider

import llmbackend


def one_job(box: Any) -> None:
    """Exactly one job exists, and one POST made it."""
    assert len(jobs(box)) == 1


def fine(box: Any, batch: Any, count: int = 9) -> None:
    assert batch.wait(POLL).results() == prompts(count)
    one_job(box)


@pytest.mark.parametrize("fault", ["kill_connection", "lost_reply", "server_error", "overloaded", "request_timeout"])
def test_an_upload_is_repeated(box: Any, client: Any, fault: str) -> None:
    box.fault(f"{fault}:1@POST /v1/files")
    batch = client.submit_batch(prompts(9))
    assert len(posts(box, "/v1/files")) == 2
    assert posts(box) == [200]
    fine(box, batch)


def test_an_upload_is_not_repeated_for_ever(box: Any) -> None:
    box.fault("kill_connection@POST /v1/files")
    client = llmbackend.client("openai", "m", **box.options("openai"), max_retries=1)
    with pytest.raises(llmbackend.APIConnectionError, match="connection broke") as caught:
        client.submit_batch(prompts(9))
    assert isinstance(caught.value, ConnectionError)
    assert posts(box, "/v1/files") == [0, 0]
    assert posts(box) == []


@pytest.mark.parametrize("part", ["POST /v1/files", "POST /v1/batches", "GET /v1/batches/", "GET /content"])
def test_rate_limits_are_waited_out(box: Any, client: Any, part: str) -> None:
    box.fault(f"rate_limit:1@{part}")
    started = time.monotonic()
    batch = client.submit_batch(prompts(9))
    fine(box, batch)
    assert time.monotonic() - started >= 1  # Retry-After: 1
    assert [status for _, _, status in box.requests()].count(429) == 1
    assert posts(box).count(200) == 1


def test_a_rate_limit_that_stays(box: Any) -> None:
    box.fault("rate_limit@POST /v1/batches")
    client = llmbackend.client("openai", "m", **box.options("openai"), max_retries=1)
    with pytest.raises(llmbackend.RateLimitError) as caught:
        client.submit_batch(prompts(9))
    error = caught.value
    assert (error.status, error.code, error.retry_after) == (429, "rate_limit_exceeded", 1.0)
    assert error.request_id
    assert error.request_id in str(error)
    assert posts(box) == [429, 429]
    assert jobs(box) == []


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("quota", llmbackend.QuotaExceededError),
        ("auth", llmbackend.AuthenticationError),
        ("forbidden", llmbackend.PermissionDeniedError),
        ("model_not_found", llmbackend.NotFoundError),
    ],
)
@pytest.mark.parametrize("part", ["POST /v1/files", "POST /v1/batches", "GET /v1/batches/", "GET /content"])
def test_refusals_are_raised_at_once(box: Any, client: Any, fault: str, kind: Any, part: str) -> None:
    box.fault(f"{fault}:1@{part}")

    def whole() -> None:
        client.submit_batch(prompts(9)).wait(POLL).results()

    # A job may not be visible in its first minute.
    if (fault, part) == ("model_not_found", "GET /v1/batches/"):
        return whole()
    with pytest.raises(kind) as caught:
        whole()
    assert caught.value.status in (401, 403, 404, 429)
    assert caught.value.code
    method, path = part.split()
    assert len([1 for seen, at, status in box.requests() if seen == method and path in at and status >= 400]) == 1
    assert posts(box).count(200) <= 1
    return None


def test_a_lost_reply_to_a_create(box: Any, client: Any) -> None:
    box.fault("lost_reply:1@POST /v1/batches")
    batch = client.submit_batch(prompts(9))
    assert posts(box) == [0]  # not sent again
    assert jobs(box)[0]["id"] == batch.id
    fine(box, batch)


def test_a_lost_reply_and_a_list_that_lags(box: Any, client: Any) -> None:
    box.fault("lost_reply:1@POST /v1/batches")
    box.fault("late_list:1")
    started = time.monotonic()
    batch = client.submit_batch(prompts(9))
    assert time.monotonic() - started >= 2
    assert posts(box) == [0]
    fine(box, batch)


def test_a_lost_reply_behind_a_long_list(box: Any, client: Any) -> None:
    for _ in range(3):
        client.submit_batch(["other"])

    def two_at_a_time(exchange: Exchange) -> Reply:
        exchange.path = exchange.path.replace("limit=100", "limit=2")
        if is_create(exchange):
            exchange.forward()
            # Others submit at the same time.
            for _ in range(5):
                client.submit_batch(["other"])
            raise Drop
        return exchange.forward()

    with Proxy(box, two_at_a_time) as proxy:
        batch = llmbackend.create_batch(prompts(9), "openai", "gpt-4o-mini", **proxy.options)
        assert batch.wait(POLL).results() == prompts(9)
        assert len([1 for seen in proxy.seen if is_create(seen)]) == 1
        assert len([1 for seen in proxy.seen if "limit=2" in seen.path]) == 3
    assert len(jobs(box)) == 9


CREATED_ALL_THE_SAME = {
    "500": Reply.of({"error": {"message": "oops", "type": "server_error", "param": None, "code": None}}, 500),
    "503": Reply(503, {}, b""),
    "408": Reply.of({"error": {"message": "timeout"}}, 408),
    "html": Reply(200, {"content-type": "text/html"}, b"<html>A gateway</html>"),
    "empty": Reply(200, {"content-type": "application/json"}, b""),
    "no id": Reply.of({}),
    "null": Reply.of(None),
    "list": Reply.of([]),
}


@pytest.mark.parametrize("name", CREATED_ALL_THE_SAME)
def test_a_create_that_worked_behind_a_wrong_answer(box: Any, name: str) -> None:
    def hook(exchange: Exchange) -> Reply:
        reply = exchange.forward()
        return CREATED_ALL_THE_SAME[name] if is_create(exchange) else reply

    with Proxy(box, hook) as proxy:
        batch = llmbackend.create_batch(prompts(9), "openai", "gpt-4o-mini", **proxy.options)
        assert posts(box) == [200]
        fine(box, batch)


def test_an_answer_to_a_create_that_is_cut(box: Any, client: Any) -> None:
    box.fault("cut_body:1@POST /v1/batches")
    batch = client.submit_batch(prompts(9))
    assert len(posts(box)) == 1
    fine(box, batch)


def test_a_stalled_answer_to_a_create(box: Any) -> None:
    box.fault("stall_body:1@POST /v1/batches")
    client = llmbackend.client("openai", "m", **box.options("openai"), timeout=0.3)
    batch = client.submit_batch(prompts(9))
    assert len(posts(box)) == 1
    fine(box, batch)


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    client = llmbackend.client("openai", "m", api_key="sk-secret", base_url=url, max_retries=0)
    with pytest.raises(llmbackend.APIConnectionError, match="cannot connect to http://127.0.0.1.*base_url") as caught:
        client.submit_batch(prompts(9))
    assert "sk-secret" not in str(caught.value)


def test_a_server_without_a_batch_api(box: Any) -> None:
    for reply in (Reply.of({"detail": "Not Found"}, 404), Reply.of({"detail": "Method Not Allowed"}, 405)):
        with Proxy(box, lambda _, reply=reply: reply) as proxy:
            with pytest.raises(llmbackend.APIError, match="no batch API"):
                llmbackend.create_batch(["a"], "openai", "m", **proxy.options)
            assert len(proxy.seen) == 1


def test_a_redirect_is_reported(box: Any) -> None:
    with Proxy(box, lambda _: Reply(301, {"location": "https://elsewhere/v1"})) as proxy:
        with pytest.raises(llmbackend.APIError, match="redirects to https://elsewhere/v1.*base_url"):
            llmbackend.create_batch(["a"], "openai", "m", **proxy.options)
        assert len(proxy.seen) == 1


@pytest.mark.parametrize("provider", ALL, ids=lambda it: it.name)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_ends_a_wait_at_once(provider: Provider, box: Any, status: int) -> None:
    with Proxy(box) as proxy:
        client = provider.through(proxy, box)
        batch = client.submit_batch(prompts(2), batch_options={"native": True})
        proxy.hook = lambda _: Reply(status, {"location": "/sign-in"}, b"<html>")
        before = len(proxy.seen)
        with pytest.raises(llmbackend.APIError, match="redirects to /sign-in.*base_url is likely wrong") as caught:
            batch.wait(POLL, timeout=20)
        assert caught.value.status == status
        assert len(proxy.seen) == before + 1
        # The job is none the worse for it.
        proxy.hook = Exchange.forward
        assert batch.wait(POLL).results() == prompts(2)


@pytest.mark.parametrize("provider", ALL, ids=lambda it: it.name)
def test_a_redirect_instead_of_a_job(provider: Provider, box: Any) -> None:
    def hook(exchange: Exchange) -> Reply:
        is_create = exchange.method == "POST" and "upload" not in exchange.path and "files" not in exchange.path
        return Reply(307, {"location": "/sign-in"}, b"<html>") if is_create else exchange.forward()

    with Proxy(box, hook) as proxy:
        with pytest.raises(llmbackend.APIError, match="redirects to /sign-in.*base_url is likely wrong"):
            provider.through(proxy, box).submit_batch(prompts(2), batch_options={"native": True})
        # Nobody made a job, so none is looked for.
        assert [exchange.method for exchange in proxy.seen if exchange.method != "POST"] == []


@pytest.mark.parametrize("fault", ["html_body", "empty_body"])
def test_an_upload_that_is_answered_with_nonsense(box: Any, client: Any, fault: str) -> None:
    box.fault(f"{fault}:1@POST /v1/files")
    with pytest.raises(llmbackend.APIError, match="(?s)no JSON.*base_url") as caught:
        client.submit_batch(prompts(9))
    assert caught.value.status == 200
    assert posts(box) == []


LOOK_FAULTS = ["kill_connection", "lost_reply", "server_error", "html_body", "empty_body", "cut_body", "conflict"]


@pytest.mark.parametrize("fault", LOOK_FAULTS)
def test_a_look_that_fails_is_repeated(box: Any, client: Any, fault: str) -> None:
    batch = client.submit_batch(prompts(9))
    box.fault(f"{fault}:1@GET /v1/batches/")
    fine(box, batch)


def test_looks_that_stall(box: Any) -> None:
    client = llmbackend.client("openai", "m", **box.options("openai"), timeout=0.2)
    batch = client.submit_batch(prompts(9))
    box.fault("stall:1@GET /v1/batches/")
    box.fault("stall_body:1@GET /v1/batches/")
    fine(box, batch)
    box.fault("stall@GET /v1/batches/")
    with pytest.raises(llmbackend.APITimeoutError, match=r"0\.2 s.*timeout") as caught:
        client.get_batch(batch.id).status()
    assert isinstance(caught.value, TimeoutError)


def test_more_trouble_than_retries(box: Any) -> None:
    """`wait` goes on where a single call gives up."""
    client = llmbackend.client("openai", "m", **box.options("openai"), max_retries=0)
    batch = client.submit_batch(prompts(9))
    box.fault("server_error:2@GET /v1/batches/")
    with pytest.raises(llmbackend.ServerError) as caught:
        batch.status()
    assert caught.value.status == 500
    fine(box, batch)


def test_a_wait_ends_in_time_although_the_server_is_silent(box: Any, client: Any) -> None:
    batch = client.submit_batch(prompts(9))
    box.fault("stall@GET /v1/batches/")
    started = time.monotonic()
    with pytest.raises(llmbackend.BatchTimeoutError, match="could not be read.*Last error: openai: no answer"):
        batch.wait(POLL, timeout=0.1)
    assert time.monotonic() - started < 8
    box.clear_faults()
    fine(box, batch)


def test_a_job_that_cannot_be_seen_at_first(box: Any, client: Any) -> None:
    box.fault("not_found_after_create:2")
    batch = client.submit_batch(prompts(9))
    fine(box, batch)
    assert gets(box, batch.id)[:2] == [404, 404]


def test_a_job_that_another_process_cannot_see(box: Any, client: Any) -> None:
    box.fault("not_found_after_create")
    batch = client.submit_batch(prompts(9))
    with pytest.raises(llmbackend.NotFoundError):
        client.get_batch(batch.id).wait(POLL)


def test_many_threads_share_a_client_and_a_batch(box: Any, client: Any) -> None:
    batch = client.submit_batch(prompts(50))
    failures: list[BaseException] = []

    def work(n: int) -> None:
        try:
            assert client.get_response(f"Thread {n}") == f"Thread {n}"
            assert batch.wait(POLL).results() == prompts(50)
            assert [item.value for item in batch.items()] == prompts(50)
            mine = client.submit_batch([f"{n}-{i}" for i in range(5)]).wait(POLL)
            assert mine.results() == [f"{n}-{i}" for i in range(5)]
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(jobs(box)) == 17


def test_a_slow_answer_does_not_undo_a_terminal_state(box: Any, client: Any) -> None:
    batch_id = client.submit_batch(prompts(9)).wait(POLL).id
    asked = threading.Event()
    done = threading.Event()

    def hook(exchange: Exchange) -> Reply:
        reply = exchange.forward()
        if "/batches/" in exchange.path and not asked.is_set():
            asked.set()
            assert done.wait(10)
            return Reply.of(reply.json | {"status": "in_progress", "output_file_id": None})
        return reply

    with Proxy(box, hook) as proxy:
        batch = llmbackend.get_batch(batch_id, "openai", "m", **proxy.options)
        slow: list[str] = []
        thread = threading.Thread(target=lambda: slow.append(batch.status()))
        thread.start()
        assert asked.wait(10)
        assert batch.status() == "completed"
        done.set()
        thread.join()
        assert slow == ["completed"]
        before = len(proxy.seen)
        assert batch.status() == "completed"
        assert len(proxy.seen) == before
