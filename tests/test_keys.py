"""A key is in no message, attribute, representation or pickle, whatever a server says."""

from __future__ import annotations

import json
import pickle
import traceback
from typing import Any

import pytest
from support import Exchange, Proxy, Reply, is_content

import llmbackend

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
    answer = {"status_code": 401, "body": {"error": {"message": f"bad {KEY}"}}}
    row = json.dumps({"custom_id": "llmb-000000", "response": answer})
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


def test_no_header_of_the_callers_is_given_away(box: Any) -> None:
    for headers in ({"authorization": f"bearer {KEY}"}, {"x-api-key": KEY}):
        echo = Reply.of({"error": {"message": f"bad key {KEY}"}}, 401)
        with Proxy(box, lambda _, echo=echo: echo) as proxy:
            options = {"api_key": "unused-key", "base_url": proxy.url, "headers": headers}
            with pytest.raises(llmbackend.AuthenticationError, match="bad key") as caught:
                llmbackend.get_response("openai", "m", "a", **options)
            no_key_in(caught.value)


def test_short_words_are_no_secrets(box: Any) -> None:
    said = "EMPTY prompt in version 1 of 11"
    with Proxy(box, lambda _: Reply.of({"error": {"message": said}}, 400)) as proxy:
        options = {"api_key": "EMPTY", "base_url": proxy.url, "headers": {"x-version": "1", "x-none": ""}}
        with pytest.raises(llmbackend.InvalidRequestError) as caught:
            llmbackend.get_response("openai", "m", "a", **options)
        assert caught.value.message == said
