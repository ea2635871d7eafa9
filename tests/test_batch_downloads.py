"""Downloads in trouble: what breaks goes on, and what is no result is never taken for one."""

from __future__ import annotations

import gzip
import itertools
import threading
import time
from typing import Any

import pytest
from support import POLL, Exchange, Proxy, Reply, gets, is_content, jobs, prompts

import llmbackend


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


def test_calls_go_on_while_results_are_read(box: Any, client: Any) -> None:
    """Reading many rows takes a while, in which other threads' calls are answered as ever."""
    batch = finished(client, 1)
    sent: list[float] = []

    def many_times_over(exchange: Exchange) -> Reply:
        reply = exchange.forward()
        if is_content(exchange):
            # Of several rows for one input, each has to be looked into.
            reply.body *= 60_000
            sent.append(time.monotonic())
        return reply

    answered: list[float] = []
    is_over = threading.Event()

    def call() -> None:
        while not is_over.is_set():
            client.get_response("a")
            answered.append(time.monotonic())

    with Proxy(box, many_times_over) as proxy:
        again = llmbackend.get_batch(batch.id, "openai", "m", **proxy.options)
        caller = threading.Thread(target=call)
        caller.start()
        try:
            assert again.results() == prompts(1)
            end = time.monotonic()
        finally:
            is_over.set()
            caller.join()
    took = end - sent[0]
    assert took > 0.3  # else the file is too small to show anything
    times = [sent[0], *(moment for moment in answered if sent[0] < moment < end), end]
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) < took / 3
