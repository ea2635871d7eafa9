"""A provider in trouble, request by request: nothing is lost, and nothing that costs money is sent twice."""

from __future__ import annotations

import gzip
import pickle
import socket
import threading
import time
from typing import Any

import llmbackend
import pytest
from support import (
    POLL,
    Drop,
    Exchange,
    Proxy,
    Reply,
    gets,
    is_content,
    is_create,
    jobs,
    posts,
    prompts,
)


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


def finished(client: Any, count: int = 400, **options: Any) -> Any:
    return client.submit_batch(prompts(count), **options).wait(POLL)


@pytest.mark.parametrize("fault", ["kill_connection", "lost_reply", "server_error", "request_timeout"])
def test_a_download_is_repeated(box: Any, client: Any, fault: str) -> None:
    batch = finished(client)
    box.fault(f"{fault}:1@GET /content")
    assert batch.results() == prompts(400)
    assert len(gets(box, "/content")) == 2


def test_a_cut_download_goes_on_where_it_broke(box: Any, client: Any) -> None:
    batch = finished(client)
    box.fault("cut_body:3@GET /content")
    assert batch.results() == prompts(400)
    assert gets(box, "/content") == [200, 206, 206, 206]


def test_a_stalled_download_goes_on_where_it_broke(box: Any) -> None:
    batch = finished(llmbackend.client("openai", "m", **box.options("openai"), timeout=0.3))
    box.fault("stall_body:1@GET /content")
    assert batch.results() == prompts(400)
    assert gets(box, "/content") == [200, 206]


def test_the_range_that_is_asked_for(box: Any, client: Any) -> None:
    batch = finished(client)
    box.fault("cut_body:1@GET /content")
    with Proxy(box, lambda exchange: whole_or_cut(exchange)) as proxy:

        def whole_or_cut(exchange: Exchange) -> Reply:
            reply = exchange.forward()
            if is_content(exchange) and "range" not in exchange.headers:
                reply.cut_at = 1000
            return reply

        box.clear_faults()
        assert llmbackend.fetch_batch_results(batch.id, "openai", "m", **proxy.options) == prompts(400)
        asked = [seen.headers for seen in proxy.seen if is_content(seen)]
        assert [headers.get("range") for headers in asked] == [None, "bytes=1000-"]
        assert [headers["accept-encoding"] for headers in asked] == ["identity"] * 2


def test_a_cut_download_from_a_server_that_ignores_ranges(box: Any, client: Any) -> None:
    batch = finished(client)
    cuts = [1000, 2000]

    def hook(exchange: Exchange) -> Reply:
        exchange.headers.pop("range", None)
        reply = exchange.forward()
        if is_content(exchange) and cuts:
            reply.cut_at = cuts.pop(0)
        return reply

    with Proxy(box, hook) as proxy:
        assert llmbackend.fetch_batch_results(batch.id, "openai", "m", **proxy.options) == prompts(400)
        assert len([1 for seen in proxy.seen if is_content(seen)]) == 3


def test_a_server_that_sends_another_part(box: Any, client: Any) -> None:
    batch = finished(client)
    wrong = [1]

    def hook(exchange: Exchange) -> Reply:
        if is_content(exchange) and "range" in exchange.headers and wrong:
            wrong.clear()
            exchange.headers["range"] = "bytes=500-"
            return exchange.forward()
        reply = exchange.forward()
        if is_content(exchange) and wrong:
            reply.cut_at = 1000
        return reply

    with Proxy(box, hook) as proxy:
        assert llmbackend.fetch_batch_results(batch.id, "openai", "m", **proxy.options) == prompts(400)


@pytest.mark.parametrize("cut_at", [None, 900])
def test_a_compressed_download(box: Any, client: Any, cut_at: int | None) -> None:
    batch = finished(client)
    cuts = [cut_at]

    def hook(exchange: Exchange) -> Reply:
        exchange.headers.pop("range", None)
        reply = exchange.forward()
        if is_content(exchange):
            reply.body = gzip.compress(reply.body)
            reply.headers["content-encoding"] = "gzip"
            reply.cut_at = cuts.pop() if cuts else None
        return reply

    with Proxy(box, hook) as proxy:
        assert llmbackend.fetch_batch_results(batch.id, "openai", "m", **proxy.options) == prompts(400)
        asked = [seen.headers.get("range") for seen in proxy.seen if is_content(seen)]
        assert asked == [None] * (1 if cut_at is None else 2)


@pytest.mark.parametrize("fault", ["html_body", "empty_body"])
def test_a_download_of_nonsense_is_no_result(box: Any, client: Any, fault: str) -> None:
    batch = finished(client)
    box.fault(f"{fault}:1@GET /content")
    assert batch.results() == prompts(400)
    quick = llmbackend.client("openai", "m", **box.options("openai"), max_retries=0)
    box.fault(f"{fault}:1@GET /content")
    again = quick.get_batch(batch.id)
    with pytest.raises(llmbackend.APIError, match="instead of rows"):
        again.results()
    assert again.results() == prompts(400)  # nothing of it was kept


def test_a_download_that_fails_can_be_repeated(box: Any) -> None:
    client = llmbackend.client("openai", "m", **box.options("openai"), max_retries=0)
    batch = finished(client)
    box.fault("server_error:1@GET /content")
    with pytest.raises(llmbackend.ServerError):
        batch.results()
    box.fault("cut_body:1@GET /content")
    with pytest.raises(llmbackend.APIConnectionError):
        batch.results()
    assert batch.results() == prompts(400)


def test_trouble_with_the_input_file_is_no_reason_to_guess(box: Any) -> None:
    client = llmbackend.client("openai", "m", **box.options("openai"), max_retries=0)
    ids = [f"id-{n}" for n in reversed(range(9))]
    batch = finished(client, 9, batch_options={"custom_ids": ids})
    again = client.get_batch(batch.id)
    outputs = jobs(box)[0]
    box.fault(f"server_error:1@GET /files/{outputs['input_file_id']}/content")
    with pytest.raises(llmbackend.ServerError):
        again.results()
    assert again.results() == prompts(9)


KEY = "sk-proj-Abc123_secret-456"


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
def test_no_error_holds_the_key(box: Any, status: int) -> None:
    said = f"Incorrect API key provided: {KEY}."
    body = Reply.of({"error": {"message": said, "type": KEY, "param": KEY, "code": KEY}, "also": KEY}, status)
    body.headers["x-request-id"] = KEY
    with Proxy(box, lambda _: body) as proxy:
        client = llmbackend.client("openai", "m", api_key=KEY, base_url=proxy.url, max_retries=0)
        for call in (
            lambda: client.get_response("a"),
            lambda: client.submit_batch(["a"]),
            lambda: client.get_batch("batch_a").status(),
            lambda: client.fetch_batch_results("batch_a"),
        ):
            with pytest.raises(llmbackend.APIError, match="Incorrect API key") as caught:
                call()
            no_key_in(caught.value)
        assert KEY not in repr(client)
        assert KEY not in str(vars(client))


def no_key_in(error: BaseException) -> None:
    import traceback

    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))
    for text in (str(error), repr(error), repr(vars(error)), "".join(traceback.format_exception(error))):
        assert "sk-proj" not in text
    assert KEY.encode() not in pickle.dumps(error)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, {"content-type": "text/html"}, f"<html>{KEY}</html>".encode()),
        Reply.of({"id": "r", "status": "failed", "error": {"code": KEY, "message": f"bad {KEY}"}, "output": []}),
        Reply.of({"id": "r", "status": "completed", "output": [], "note": KEY}),
        Reply(301, {"location": f"https://elsewhere/?key={KEY}"}),
    ],
    ids=["html", "failed", "nothing", "redirect"],
)
def test_no_odd_answer_gives_the_key_away(box: Any, reply: Reply) -> None:
    with Proxy(box, lambda _: reply) as proxy:
        client = llmbackend.client("openai", "m", api_key=KEY, base_url=proxy.url, max_retries=0)
        with pytest.raises((llmbackend.APIError, llmbackend.OutputError)) as caught:
            client.get_response("a")
        no_key_in(caught.value)


def test_no_connection_error_holds_the_key(box: Any) -> None:
    with Proxy(box) as proxy:
        url = proxy.url
    client = llmbackend.client("openai", "m", api_key=KEY, base_url=url, max_retries=0, headers={"x-also": KEY})
    with pytest.raises(llmbackend.APIConnectionError) as caught:
        client.get_response("a")
    no_key_in(caught.value)


def test_no_failed_job_gives_the_key_away(box: Any) -> None:
    failed = {"id": "batch_a", "status": "failed", "errors": {"data": [{"message": f"bad {KEY}", "code": KEY}]}}
    row = '{"custom_id":"llmb-000000","response":{"status_code":401,"body":{"error":{"message":"bad %s"}}}}' % KEY
    ended = {"id": "batch_b", "status": "completed", "output_file_id": "f", "request_counts": {"total": 1}}

    def hook(exchange: Exchange) -> Reply:
        if is_content(exchange):
            return Reply(200, {}, row.encode())
        return Reply.of(failed if "batch_a" in exchange.path else ended)

    with Proxy(box, hook) as proxy:
        client = llmbackend.client("openai", "m", api_key=KEY, base_url=proxy.url)
        with pytest.raises(llmbackend.BatchFailedError, match="bad") as caught:
            client.get_batch("batch_a").wait()
        no_key_in(caught.value)
        (error,) = client.get_batch("batch_b").results(return_exceptions=True)
        assert isinstance(error, llmbackend.AuthenticationError)
        no_key_in(error)
        with pytest.raises(llmbackend.BatchItemsError) as items:
            client.get_batch("batch_b").results()
        assert KEY not in str(items.value)


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
