"""Batches without a job: calls one after another, or several at once, whose results are there at the end."""

from __future__ import annotations

import gc
import pickle
import time
from collections.abc import Iterator
from typing import Any

import pytest
from recorder import Recorder, Reply, answer
from scripts import interrupt_when, start
from support import Drop, Exchange, Proxy, prompts
from support import Reply as ProxyReply
from table import ALL, ANTHROPIC, GEMINI, OPENAI, Echo, Provider, jobs

import llmbackend
from llmbackend import Batch, CompletedBatch, Usage

IMMEDIATE = {"native": False}


@pytest.fixture(params=ALL, ids=lambda it: it.name)
def provider(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def client(provider: Provider, box: Any) -> llmbackend.Client:
    return provider.client(box)


def test_which_batches_are_immediate(provider: Provider, client: Any, box: Any) -> None:
    batch = client.submit_batch(prompts(3))
    assert (type(batch) is CompletedBatch) is (provider is ANTHROPIC)
    assert (len(jobs(provider, box)) == 0) is (provider is ANTHROPIC)
    assert isinstance(batch, Batch)


def test_the_whole_interface(provider: Provider, client: Any, box: Any) -> None:
    batch = client.submit_batch(prompts(5), batch_options=IMMEDIATE)
    assert type(batch) is CompletedBatch
    assert (batch.status(), batch.normalized_status()) == ("completed", "completed")
    states: list[str] = []
    assert batch.wait() is batch
    assert batch.wait(5.0, 0, states.append) is batch
    assert states == ["completed"]
    batch.cancel()
    assert batch.results() == prompts(5)
    assert batch.results(return_exceptions=True) == prompts(5)
    for index, item in enumerate(batch.items()):
        assert (item.index, item.custom_id, item.status) == (index, f"llmb-{index:06}", "succeeded")
        assert item.value == item.text == f"Prompt {index}"
        assert (item.error, item.finish_reason) == (None, "stop")
        assert type(item.usage) is Usage
        assert item.usage.output_tokens == 2
    assert repr(batch) == f"CompletedBatch({batch.id!r}, provider={provider.name!r})"
    assert provider.calls(box) == [200] * 5


def test_ids(provider: Provider, client: Any, box: Any) -> None:
    one, two = (client.submit_batch(prompts(2), batch_options=IMMEDIATE) for _ in range(2))
    assert one.id != two.id
    status = {"state": "completed", "provider": provider.name, "raw_state": "completed", "batch_id": one.id}
    assert client.get_batch_status(one.id) == status
    options = box.options(provider.name)
    assert llmbackend.get_batch_status(one.id, provider.name, provider.model, **options) == status
    another = next(one for one in ALL if one is not provider).client(box)
    assert another.get_batch_status(one.id) == status
    assert client.fetch_batch_results(one.id) == prompts(2)
    assert llmbackend.fetch_batch_results(one.id, provider.name, provider.model, **options) == prompts(2)
    assert client.get_batch(one.id).results() == prompts(2)
    gone = one.id
    del one
    gc.collect()
    for call in (client.get_batch_status, client.fetch_batch_results, client.get_batch):
        with pytest.raises(llmbackend.BatchError, match="this batch was immediate") as caught:
            call(gone)
        assert caught.value.batch_id == gone
    assert two.results() == prompts(2)


def test_nothing_to_do(client: Any, box: Any) -> None:
    for options in (IMMEDIATE, {"native": True}, {"native": False, "custom_ids": []}):
        batch = client.submit_batch([], batch_options=options)
        assert type(batch) is CompletedBatch
        assert (batch.results(), list(batch.items()), batch.normalized_status()) == ([], [], "completed")
    assert box.requests() == []


def test_a_generator(client: Any) -> None:
    batch = client.submit_batch((f"Prompt {n}" for n in range(40)), batch_options=IMMEDIATE | {"concurrency": 8})
    assert batch.results() == prompts(40)


@pytest.mark.parametrize("concurrency", [1, 4, 16])
def test_order_and_concurrency(provider: Provider, box: Any, concurrency: int) -> None:
    at_once, most = [], []

    def slowly(exchange: Exchange) -> ProxyReply:
        at_once.append(1)
        most.append(len(at_once))
        # The first answers come last.
        time.sleep(0.05 if b"Prompt 0" in exchange.body else 0.01)
        at_once.pop()
        return exchange.forward()

    with Proxy(box, slowly) as proxy:
        client = provider.through(proxy, box)
        batch = client.submit_batch(prompts(32), batch_options=IMMEDIATE | {"concurrency": concurrency})
        assert batch.results() == prompts(32)
    assert max(most) <= concurrency
    assert (max(most) > 1) is (concurrency > 1)
    if concurrency == 1:
        sent = [exchange.body for exchange in proxy.seen]
        assert [b"Prompt %d" % n in body for n, body in enumerate(sent)] == [True] * 32


def test_concurrency_saves_time() -> None:
    with Recorder(Reply(answer("ok"), silence=0.1)) as recorder:
        client = llmbackend.client("openai", "m", api_key="k", base_url=recorder.url)
        started = time.monotonic()
        client.submit_batch(prompts(16), batch_options=IMMEDIATE | {"concurrency": 16})
        assert time.monotonic() - started < 1
        assert len(recorder.requests) == 16


def test_options(provider: Provider, box: Any) -> None:
    ids = ["c", "a", "b"]
    with Proxy(box) as proxy:
        options = IMMEDIATE | {
            "custom_ids": ids,
            "system": "Be brief.",
            "display_name": "stories",
            "completion_window": "24h",
        }
        batch = provider.through(proxy, box).submit_batch(prompts(3), batch_options=options)
        assert all(b"Be brief." in exchange.body for exchange in proxy.seen)
    assert batch.results() == prompts(3)
    assert [item.custom_id for item in batch.items()] == ids


def test_config_and_conversations(client: Any) -> None:
    talk = [{"role": "system", "content": "S"}, {"role": "user", "content": "One"}]
    config = {"max_tokens": 16, "extra": {"stop": "STOP"}}
    inputs = ["before STOP", "0123456789" * 30, talk]
    items = list(client.submit_batch(inputs, config, batch_options=IMMEDIATE).items())
    assert [item.value for item in items] == ["before ", ("0123456789" * 7)[:64], "One"]
    assert [item.status for item in items] == ["succeeded", "truncated", "succeeded"]
    assert [item.finish_reason for item in items] == ["stop", "length", "stop"]
    config = {"extra": {"conversations": [talk, talk]}}
    assert client.submit_batch(["a", "b"], config, batch_options=IMMEDIATE).results() == ["One", "One"]


def test_structured(provider: Provider, client: Any, box: Any) -> None:
    batch = client.submit_batch(prompts(4), schema=Echo, batch_options=IMMEDIATE)
    assert [one.said for one in batch.results()] == prompts(4)
    assert client.get_batch(batch.id).results() == batch.results()
    box.fault(f"unfit_json:1@{provider.call}")
    batch = client.submit_batch(prompts(3), schema=Echo, batch_options=IMMEDIATE)
    first, *rest = batch.items()
    assert (first.status, first.value) == ("invalid", None)
    assert isinstance(first.error, llmbackend.InvalidOutputError)
    assert first.text == first.error.text
    assert "Prompt 0" in first.text
    assert [item.status for item in rest] == ["succeeded"] * 2


def one_in_trouble(number: int, reply: ProxyReply | None = None) -> Any:
    def hook(exchange: Exchange) -> ProxyReply:
        if b'Prompt %d"' % number not in exchange.body:
            return exchange.forward()
        if reply is None:
            raise Drop
        return reply

    return hook


BAD_REQUEST = ProxyReply.of({"error": {"message": "No.", "type": "invalid_request_error", "status": "INVALID"}}, 400)
DENIED = ProxyReply.of({"error": {"message": "Key?", "type": "authentication_error", "status": "UNAUTHENTICATED"}}, 401)
EMPTY = ProxyReply.of({"error": {"message": "Pay.", "type": "billing_error", "code": "insufficient_quota"}}, 402)


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (BAD_REQUEST, llmbackend.InvalidRequestError),
        (None, llmbackend.APIConnectionError),
        (ProxyReply(200, {}, b"<html>"), llmbackend.APIError),
        (ProxyReply(503, {}, b""), llmbackend.ServerError),
    ],
)
def test_one_failed_item_keeps_the_others(
    provider: Provider, box: Any, reply: Any, kind: Any, concurrency: int
) -> None:
    with Proxy(box, one_in_trouble(2, reply)) as proxy:
        client = provider.through(proxy, box, max_retries=0)
        batch = client.submit_batch(prompts(5), batch_options=IMMEDIATE | {"concurrency": concurrency})
    assert batch.normalized_status() == "completed"
    assert [item.status for item in batch.items()] == ["succeeded", "succeeded", "failed", "succeeded", "succeeded"]
    with pytest.raises(llmbackend.BatchItemsError, match="1 of 5 items.*the first is 2") as caught:
        batch.results()
    assert caught.value.results == ["Prompt 0", "Prompt 1", None, "Prompt 3", "Prompt 4"]
    (error,) = caught.value.errors.values()
    assert list(caught.value.errors) == [2]
    assert isinstance(error, kind)
    mixed = batch.results(return_exceptions=True)
    assert isinstance(mixed[2], kind)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.results) == (str(caught.value), caught.value.results)
    assert type(again.errors[2]) is type(error)


ANSWERS = {
    "refusal": ("refused", (llmbackend.RefusalError, llmbackend.ContentFilterError)),
    "content_filter": ("refused", (llmbackend.RefusalError, llmbackend.ContentFilterError)),
    "reasoning_only": ("truncated", llmbackend.TruncatedError),
    "null_output": ("failed", llmbackend.OutputError),
    "failed_200": ("failed", llmbackend.APIError),
    "server_error": ("failed", llmbackend.ServerError),
    "model_not_found": ("failed", llmbackend.NotFoundError),
}


@pytest.mark.parametrize("fault", ANSWERS)
def test_outcomes(provider: Provider, box: Any, fault: str) -> None:
    status, kind = ANSWERS[fault]
    box.fault(f"{fault}:1@{provider.call}")
    batch = provider.client(box, max_retries=0).submit_batch(prompts(3), batch_options=IMMEDIATE)
    first, *rest = batch.items()
    assert (first.status, first.value) == (status, None)
    if fault == "failed_200" and provider is GEMINI:
        kind = llmbackend.OutputError  # it has no words for an answer that failed
    assert isinstance(first.error, kind)
    pickle.loads(pickle.dumps(first.error))
    assert [item.status for item in rest] == ["succeeded"] * 2


FATAL = [(DENIED, llmbackend.AuthenticationError), (EMPTY, llmbackend.QuotaExceededError)]


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize(("reply", "kind"), FATAL)
def test_a_fatal_error_at_first_is_raised(
    provider: Provider, box: Any, reply: Any, kind: Any, concurrency: int
) -> None:
    with Proxy(box, lambda _: reply) as proxy:
        client = provider.through(proxy, box)
        with pytest.raises(kind):
            client.submit_batch(prompts(20), batch_options=IMMEDIATE | {"concurrency": concurrency})
        assert len(proxy.seen) <= concurrency


@pytest.mark.parametrize(("reply", "kind"), FATAL)
def test_a_fatal_error_in_the_middle_cancels_the_rest(provider: Provider, box: Any, reply: Any, kind: Any) -> None:
    with Proxy(box, one_in_trouble(2, reply)) as proxy:
        batch = provider.through(proxy, box).submit_batch(prompts(6), batch_options=IMMEDIATE)
        assert len(proxy.seen) == 3
    items = list(batch.items())
    assert [item.status for item in items] == [
        "succeeded",
        "succeeded",
        "failed",
        "cancelled",
        "cancelled",
        "cancelled",
    ]
    assert [type(item.error) for item in items[2:]] == [kind] * 4
    assert batch.normalized_status() == "completed"
    with pytest.raises(llmbackend.BatchItemsError) as caught:
        batch.results()
    assert sorted(caught.value.errors) == [2, 3, 4, 5]
    assert caught.value.results[:2] == prompts(2)


def test_a_fatal_error_among_calls_that_are_under_way(provider: Provider, box: Any) -> None:
    with Proxy(box, one_in_trouble(2, DENIED)) as proxy:
        client = provider.through(proxy, box)
        batch = client.submit_batch(prompts(60), batch_options=IMMEDIATE | {"concurrency": 4})
        assert len(proxy.seen) < 20
    items = list(batch.items())
    assert (items[2].status, items[-1].status) == ("failed", "cancelled")
    assert len([item for item in items if item.status == "succeeded"]) == len(proxy.seen) - 1
    assert all(item.error is None for item in items if item.status == "succeeded")


BAD_INPUTS = [3, None, "a\ud800", [{"role": "user"}], []]


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=repr)
def test_a_bad_input_anywhere(client: Any, box: Any, bad: Any) -> None:
    for inputs in ([bad, "a"], ["a", "b", bad]):
        with pytest.raises(llmbackend.ConfigurationError, match=f"inputs\\[{inputs.index(bad)}\\]"):
            client.submit_batch(inputs, batch_options=IMMEDIATE)
    assert box.requests() == []


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(
    ("provider", "text"), [(ANTHROPIC, ""), (ANTHROPIC, " \n"), (GEMINI, "")], indirect=["provider"]
)
def test_an_empty_input_anywhere(client: Any, box: Any, text: str, native: bool) -> None:
    with pytest.raises(llmbackend.ConfigurationError, match=r"inputs\[2\] is empty"):
        client.submit_batch(["a", "b", text], batch_options={"native": native})
    assert box.requests() == []


def test_inputs_that_raise_half_way(client: Any, box: Any) -> None:
    def inputs() -> Iterator[str]:
        yield "a"
        raise RuntimeError("the disk is gone")

    with pytest.raises(Exception, match="the disk is gone"):
        client.submit_batch(inputs(), batch_options=IMMEDIATE)
    for wrong in ("a str", b"bytes", {"a": 1}, 3, None):
        with pytest.raises(llmbackend.ConfigurationError):
            client.submit_batch(wrong, batch_options=IMMEDIATE)
    assert box.requests() == []


def test_trouble_that_passes(provider: Provider, client: Any, box: Any) -> None:
    box.fault(f"rate_limit:1@{provider.call}")
    box.fault(f"kill_connection:1@{provider.call}")
    assert client.submit_batch(prompts(3), batch_options=IMMEDIATE).results() == prompts(3)
    assert len(provider.calls(box)) == 5


def test_an_interrupt_is_heard(box: Any) -> None:
    box.fault("stall@POST /v1/responses")
    code = "interrupted(lambda: client.submit_batch(['a', 'b'], batch_options={'native': False}))"
    told = interrupt_when(start(code, box.options("openai")), lambda: OPENAI.calls(box))
    assert told["after"] < 1


def test_an_anthropic_server_that_knows_no_structured_outputs(box: Any) -> None:
    box.fault("no_output_config@/v1/messages")
    client = ANTHROPIC.client(box)
    assert client.get_response("a", schema=Echo).said == "a"
    assert ANTHROPIC.calls(box) == [400, 200]
    batch = client.submit_batch(prompts(4), schema=Echo, batch_options={"concurrency": 2})
    assert ANTHROPIC.calls(box) == [400, 200, *[200] * 4]  # it is not asked again what it does not know
    assert [one.said for one in batch.results()] == prompts(4)
    listed = client.submit_batch(["a"], schema=llmbackend.StructuredOutput(pydantic_model=list[Echo]))
    assert all(type(one) is Echo for one in listed.results()[0])


def test_an_anthropic_server_that_took_neither_form_is_asked_for_both_again(box: Any) -> None:
    box.fault("no_output_config@/v1/messages")
    failing = [True]

    def hook(exchange: Exchange) -> ProxyReply:
        if b"output_config" not in exchange.body and failing:
            failing.clear()
            return ProxyReply(503, {}, b"")
        return exchange.forward()

    with Proxy(box, hook) as proxy:
        client = ANTHROPIC.through(proxy, box, max_retries=0)
        with pytest.raises(llmbackend.ServerError):
            client.get_response("a", schema=Echo)
        for prompt in prompts(2):
            assert client.get_response(prompt, schema=Echo).said == prompt
        newer = [b"output_config" in exchange.body for exchange in proxy.seen]
    assert newer == [True, False, True, False, False]


def test_many(provider: Provider, client: Any) -> None:
    batch = client.submit_batch(prompts(2_000), batch_options=IMMEDIATE | {"concurrency": 16})
    assert batch.results() == prompts(2_000)
