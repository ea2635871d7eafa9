"""The option `deadline`: how long a call may take with its retries, however little of an answer comes at a time."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from recorder import ANSWER, Recorder, Reply, Request, Stopwatch
from support import POLL, Exchange, Proxy, is_content, is_create
from support import Reply as ProxyReply
from wild_server import WildServer, head, whole

import llmbackend


def opened(url: str, provider: str = "openai", **options: Any) -> llmbackend.Client:
    return llmbackend.client(provider, "m", api_key="sandbox", base_url=url, **options)


def drip(beginning: bytes = b"", piece: bytes = b" ", pause: float = 0.05) -> Iterator[bytes]:
    """A reply that never ends and is never silent."""
    yield head()
    yield beginning
    while True:
        time.sleep(pause)
        yield piece


def drip_head() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 X\r\n"
    for n in itertools.count():
        time.sleep(0.05)
        yield b"x-%d: y\r\n" % n


def silence() -> Iterator[bytes]:
    time.sleep(20)
    yield b""


@pytest.mark.parametrize("script", [drip, drip_head, silence])
@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
def test_an_answer_that_never_ends_ends_at_the_deadline(provider: str, script: Any) -> None:
    with WildServer(lambda _: script()) as server, Stopwatch() as watch:
        with pytest.raises(
            llmbackend.APITimeoutError, match=r"no whole answer within the deadline of 0\.4 s\. A larger `deadline`"
        ):
            opened(server.url, provider, deadline=0.4).get_response("hi")
        assert len(server.requests) == 1
    assert 0.4 <= watch.seconds < 2


def test_the_deadline_bounds_all_retries_together() -> None:
    with Recorder(Reply({"error": {"message": "Broken."}}, 500)) as recorder, Stopwatch() as watch:
        with pytest.raises(llmbackend.APITimeoutError) as caught:
            opened(recorder.url, deadline=1.2, max_retries=9).get_response("hi")
        # After half a second there is a second try; a third, after another second, would be too late.
        assert len(recorder.requests) == 2
    assert watch.seconds < 1.2
    message = str(caught.value)
    assert "within the deadline of 1.2 s, with 1 retry." in message
    assert "The last error was: openai: Broken. (HTTP 500" in message


def test_a_retry_that_takes_too_long_names_what_came_before_it() -> None:
    replies = [Reply({"error": {"message": "Busy."}}, 503), Reply(silence=20)]
    with Recorder(*replies) as recorder:
        with pytest.raises(llmbackend.APITimeoutError, match=r"1 s, with 1 retry\..*Busy\. \(HTTP 503"):
            opened(recorder.url, deadline=1).get_response("hi")
        assert len(recorder.requests) == 2


def test_an_error_that_is_final_before_the_deadline_is_itself() -> None:
    with (
        Recorder(Reply({"error": {"message": "Broken."}}, 500)) as recorder,
        pytest.raises(llmbackend.ServerError, match="Broken"),
    ):
        opened(recorder.url, deadline=30, max_retries=1).get_response("hi")
    with Recorder(Reply({"error": {"message": "No."}}, 401)) as recorder, pytest.raises(llmbackend.AuthenticationError):
        opened(recorder.url, deadline=1).get_response("hi")


@pytest.mark.parametrize("wait", ["1.2", None])
def test_pauses_of_rate_limits_do_not_count(wait: str | None) -> None:
    limited = Reply({"error": {"message": "Slow down."}}, 429, {"retry-after": wait} if wait else {})
    with Recorder(limited, limited, Reply()) as recorder, Stopwatch() as watch:
        assert opened(recorder.url, deadline=0.5).get_response("hi") == "ok"
        assert len(recorder.requests) == 3
    assert watch.seconds > 0.5


def test_what_comes_in_time_is_an_answer() -> None:
    def slowly(_: Request) -> Iterator[bytes]:
        body = json.dumps(ANSWER).encode()
        yield head(content_length=str(len(body)))
        for at in range(0, len(body), 40):
            time.sleep(0.03)
            yield body[at : at + 40]

    with WildServer(slowly) as server, Stopwatch() as watch:
        # `timeout` bounds silence, not the whole.
        assert opened(server.url, deadline=20, timeout=0.2).get_response("hi") == "ok"
    assert watch.seconds > 0.2


def test_each_call_of_an_immediate_batch_has_its_own() -> None:
    def script(request: Request) -> Iterator[bytes]:
        return drip() if request.json["input"] == "slow" else whole(json.dumps(ANSWER).encode())

    with WildServer(script) as server, Stopwatch() as watch:
        inputs = ["slow", "a", "slow", "b", "slow"]
        batch = opened(server.url, deadline=0.4).submit_batch(inputs, batch_options={"native": False})
        items = list(batch.items())
    assert [item.status for item in items] == ["failed", "succeeded", "failed", "succeeded", "failed"]
    assert {type(item.error) for item in items} == {llmbackend.APITimeoutError, type(None)}
    assert all("deadline of 0.4 s" in str(item.error) for item in items if item.error)
    assert 1.2 <= watch.seconds < 6
    assert len(server.requests) == 5


def test_the_fallback_for_old_servers_gets_what_is_left() -> None:
    old = {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "output_config: Extra inputs are not permitted"},
    }
    with Recorder(Reply(old, 400, silence=0.3), Reply(silence=20)) as recorder, Stopwatch() as watch:
        with pytest.raises(llmbackend.APITimeoutError, match=r"deadline of 0\.8 s"):
            opened(recorder.root, "anthropic", deadline=0.8).get_response("hi", schema={"type": "object"})
        assert len(recorder.requests) == 2
    assert watch.seconds < 1.05 + 0.5


def test_uploads_creates_polls_and_downloads_have_no_deadline(box: Any) -> None:
    def slowly(exchange: Exchange) -> ProxyReply:
        slow.append((exchange.method, is_create(exchange), is_content(exchange)))
        time.sleep(0.25)
        return exchange.forward()

    slow: list[tuple[str, bool, bool]] = []
    with Proxy(box, slowly) as proxy:
        client = llmbackend.client("openai", "m", **proxy.options, deadline=0.1)
        assert client.submit_batch(["a", "b"]).wait(POLL).results() == ["a", "b"]
        assert len(slow) >= 4
        with pytest.raises(llmbackend.APITimeoutError, match=r"deadline of 0\.1 s"):
            client.get_response("a")


@pytest.mark.parametrize("call", ["status", "cancel", "results"])
def test_other_replies_that_drip_count_as_silence(call: str) -> None:
    with WildServer(lambda _: drip(b'{"id": "batch_1"')) as server, Stopwatch() as watch:
        batch = opened(server.url, timeout=0.4, max_retries=0).get_batch("batch_1")
        with pytest.raises(llmbackend.APITimeoutError, match=r"within 0\.4 s.*`timeout`"):
            getattr(batch, call)()
    assert watch.seconds < 2


def test_a_large_state_that_keeps_coming_is_not_silent() -> None:
    def slowly(_: Request) -> Iterator[bytes]:
        body = json.dumps({"id": "batch_1", "object": "batch", "status": "in_progress", "x": "y" * (1 << 20)}).encode()
        yield head(content_length=str(len(body)))
        for at in range(0, len(body), 1 << 17):
            time.sleep(0.1)
            yield body[at : at + (1 << 17)]

    with WildServer(slowly) as server, Stopwatch() as watch:
        assert opened(server.url, timeout=0.4).get_batch("batch_1").status() == "in_progress"
    assert watch.seconds > 0.4


@pytest.mark.parametrize("status", [401, 429])
def test_an_error_reply_that_drips_is_that_error_after_the_timeout(status: int) -> None:
    def script(_: Request) -> Iterator[bytes]:
        return itertools.chain([head(status)], itertools.islice(drip(b'{"error": {"message": "No.'), 1, None))

    with (
        WildServer(script) as server,
        Stopwatch() as watch,
        pytest.raises(llmbackend.APIError, match=r"No\.") as caught,
    ):
        opened(server.url, timeout=0.4, max_retries=0).get_response("hi")
    assert (caught.value.status, caught.value.request_id) == (status, "req_1")
    assert watch.seconds < 2


@pytest.mark.parametrize("wrong", [0, 0.0, -1, "5", True, [1], float("nan"), float("inf"), 1e300])
def test_a_deadline_that_is_no_time_is_refused(wrong: Any) -> None:
    with pytest.raises(llmbackend.ConfigurationError, match="deadline"):
        llmbackend.client("openai", "m", api_key="sandbox", deadline=wrong)


@pytest.mark.parametrize("longest", [1.8e19, 1e18, 86_400, None])
def test_a_deadline_beyond_all_clocks_is_none(longest: Any) -> None:
    with Recorder() as recorder:
        assert opened(recorder.url, deadline=longest).get_response("hi") == "ok"
