"""One table: the same jobs on all three providers end in the same states, with the same outcome for every input."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support import POLL, prompts, run_python
from table import ALL, ANTHROPIC, COUNT, DONE, GEMINI, NATIVE, OPENAI, Echo, Provider, ended, jobs, submitted

import llmbackend
from llmbackend import Batch, Usage


@pytest.fixture(params=ALL, ids=lambda it: it.name)
def provider(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def client(provider: Provider, box: Any) -> llmbackend.Client:
    return provider.client(box)


def test_a_batch(provider: Provider, client: Any, box: Any) -> None:
    states: list[str] = []
    batch = submitted(client)
    assert type(batch) is Batch
    assert batch.wait(POLL, timeout=30, callback=states.append) is batch
    assert states[-1] == "completed"
    assert set(states) <= {"pending", "in_progress", "completed"}
    assert (batch.status(), batch.normalized_status()) == (DONE[provider.name], "completed")
    assert batch.results() == prompts(COUNT)
    for index, item in enumerate(batch.items()):
        assert (item.index, item.custom_id, item.status) == (index, f"llmb-{index:06}", "succeeded")
        assert item.value == item.text == f"Prompt {index}"
        assert (item.error, item.finish_reason) == (None, "stop")
        assert type(item.usage) is Usage
        assert (item.usage.output_tokens, item.usage.reasoning_tokens) == (2, 0)
        assert item.usage.input_tokens >= 2
    assert len(jobs(provider, box)) == 1
    assert len(provider.calls(box)) == 0


def test_states(provider: Provider) -> None:
    with llmbackend.sandbox(speed=60) as slow:
        client = provider.client(slow)
        batch = submitted(client)
        first = {
            "openai": ("validating", "pending"),
            "anthropic": ("in_progress", "in_progress"),
            "gemini": ("JOB_STATE_PENDING", "pending"),
        }[provider.name]
        assert (batch.status(), batch.normalized_status()) == first
        assert client.get_batch_status(batch.id) == {
            "state": first[1],
            "provider": provider.name,
            "raw_state": first[0],
            "batch_id": batch.id,
        }
        for call in (batch.results, batch.items, lambda: client.fetch_batch_results(batch.id)):
            with pytest.raises(llmbackend.BatchNotCompletedError, match="wait") as caught:
                call()
            assert caught.value.batch_id == batch.id
        with pytest.raises(llmbackend.BatchTimeoutError) as timeout:
            batch.wait(POLL, timeout=0)
        assert isinstance(timeout.value, TimeoutError)
        assert batch.id in str(timeout.value)


BY_ID = """
import json, sys
import llmbackend
from pydantic import BaseModel

class Echo(BaseModel):
    said: str
    count: int

name, model, options, plain, named, shaped = json.loads(sys.argv[1])
status = llmbackend.get_batch_status(plain, name, model, **options)
fetch = lambda id, schema=None: llmbackend.fetch_batch_results(id, name, model, schema, **options)
ids = [item.custom_id for item in llmbackend.get_batch(named, name, model, **options).items()]
print(json.dumps([status, fetch(plain), fetch(named), ids, [one.said for one in fetch(shaped, Echo)]]))
"""


def test_by_id_from_another_process(provider: Provider, client: Any, box: Any) -> None:
    # In natural order: Anthropic gives back no other.
    ids = [f"row-{n}" for n in range(12)]
    plain = ended(client).id
    named = ended(client, 12, batch_options={"custom_ids": ids}).id
    shaped = ended(client, schema=Echo).id
    # Without its client a batch of Anthropic cannot tell whether its own ids are in order, and says so.
    code = BY_ID
    if provider is ANTHROPIC:
        code = "import warnings\nwarnings.filterwarnings('ignore', message='.*natural order')\n" + BY_ID
    out = run_python(
        code, json.dumps([provider.name, provider.model, box.options(provider.name), plain, named, shaped])
    )
    status, results, by_name, custom_ids, said = json.loads(out)
    raw_state = DONE[provider.name]
    assert status == {"state": "completed", "provider": provider.name, "raw_state": raw_state, "batch_id": plain}
    assert (results, by_name, custom_ids, said) == (prompts(COUNT), prompts(12), ids, prompts(COUNT))


def test_custom_ids(provider: Provider, client: Any) -> None:
    ids = [f"id_{(n * 7) % 12}" for n in range(12)]
    batch = ended(client, 12, batch_options={"custom_ids": ids})
    assert batch.results() == prompts(12)
    assert [item.custom_id for item in batch.items()] == ids
    if provider is not ANTHROPIC:
        again = client.get_batch(batch.id)
        assert again.results() == prompts(12)
        assert [item.custom_id for item in again.items()] == ids
        return
    again = client.get_batch(batch.id)
    with pytest.warns(UserWarning, match="natural order"):
        items = list(again.items())
    assert [item.custom_id for item in items] == sorted(ids, key=lambda it: int(it[3:]))
    assert sorted(item.value for item in items) == sorted(prompts(12))


BAD_IDS: list[Any] = [
    ["a"],
    ["a"] * 3,
    ["a", "b", ""],
    ["a", "b", 3],
    ["a", "b", "llmb-000002"],
    "abc",
    ["a", "b", "c", "d"],
]


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("ids", BAD_IDS, ids=repr)
def test_wrong_custom_ids(client: Any, box: Any, ids: Any, native: bool) -> None:
    with pytest.raises(llmbackend.ConfigurationError, match="custom_ids"):
        client.submit_batch(prompts(3), batch_options={"custom_ids": ids, "native": native})
    assert box.requests() == []


def test_options(client: Any) -> None:
    options = {"display_name": "products", "completion_window": "24h", "system": "Be brief."}
    batch = ended(client, batch_options=options, config={"max_tokens": 16, "temperature": 0.5})
    assert batch.results() == prompts(COUNT)


@pytest.mark.parametrize(
    "options", [{"completion_window": "1h"}, {"display_nam": "x"}, {"native": 1}, {"concurrency": 0}, {"system": 3}]
)
def test_wrong_options(client: Any, box: Any, options: Any) -> None:
    with pytest.raises(llmbackend.ConfigurationError):
        client.submit_batch(prompts(3), batch_options=NATIVE | options)
    assert box.requests() == []


def test_config(client: Any) -> None:
    texts = ["short", "0123456789" * 30, "before STOP after"]
    config = {"max_tokens": 16, "extra": {"stop": ["STOP"]}}
    batch = client.submit_batch(iter(texts), config, batch_options=NATIVE).wait(POLL)
    items = list(batch.items())
    assert [item.value for item in items] == ["short", ("0123456789" * 7)[:64], "before "]
    assert [item.status for item in items] == ["succeeded", "truncated", "succeeded"]
    assert [item.finish_reason for item in items] == ["stop", "length", "stop"]
    assert [item.error for item in items] == [None] * 3
    assert client.fetch_batch_results(batch.id) == batch.results()


def test_conversations(client: Any) -> None:
    talk = [{"role": "system", "content": "S"}, {"role": "user", "content": "One"}]
    longer = [*talk, {"role": "assistant", "content": "Two"}, {"role": "user", "content": "Three"}]
    assert client.submit_batch([talk, "Plain", longer], batch_options=NATIVE).wait(POLL).results() == [
        "One",
        "Plain",
        "Three",
    ]
    config = {"extra": {"conversations": [talk, longer]}}
    assert client.submit_batch(["a", "b"], config, batch_options=NATIVE).wait(POLL).results() == ["One", "Three"]
    with pytest.raises(llmbackend.ConfigurationError, match="conversation"):
        client.submit_batch(["a"], config, batch_options=NATIVE)


def test_structured(client: Any) -> None:
    batch = ended(client, schema=Echo)
    assert [type(one) for one in batch.results()] == [Echo] * COUNT
    assert [one.said for one in batch.results()] == prompts(COUNT)
    assert client.fetch_batch_results(batch.id, Echo) == batch.results()
    as_text = client.fetch_batch_results(batch.id)
    assert [Echo.model_validate_json(text) for text in as_text] == batch.results()
    rooted = ended(client, schema=llmbackend.StructuredOutput(pydantic_model=list[Echo]))
    assert all(type(one) is Echo for row in rooted.results() for one in row)
    unwrapped = client.fetch_batch_results(rooted.id, llmbackend.StructuredOutput(pydantic_model=list[Echo]))
    assert unwrapped == rooted.results()


def test_cancel(provider: Provider) -> None:
    with llmbackend.sandbox(speed=60) as box:
        client = provider.client(box)
        batch = submitted(client)
        batch.cancel()
        with pytest.raises(llmbackend.BatchFailedError, match="rows had finished"):
            batch.wait(POLL, timeout=20)
        assert batch.normalized_status() == "cancelled"
        assert {item.status for item in batch.items()} <= {"cancelled", "succeeded"}
        with pytest.raises((llmbackend.BatchFailedError, llmbackend.BatchItemsError)):
            batch.results()


def test_an_id_that_nobody_knows(provider: Provider, client: Any) -> None:
    unknown = {"openai": "batch_nothing", "anthropic": "msgbatch_nothing", "gemini": "batches/nothing"}[provider.name]
    for call in (client.get_batch_status, client.fetch_batch_results):
        with pytest.raises(llmbackend.NotFoundError):
            call(unknown)


@pytest.mark.parametrize("bad", ["..", "."])
def test_an_id_that_is_another_place(client: Any, box: Any, bad: str) -> None:
    for call in (client.get_batch, client.get_batch_status, client.fetch_batch_results):
        with pytest.raises(llmbackend.ConfigurationError, match="cannot be the id of a"):
            call(bad)
    assert box.requests() == []


@pytest.mark.parametrize("place", ["gs://bucket/x", "bq://project.set.table"])
def test_places_in_the_cloud(box: Any, place: str) -> None:
    with pytest.raises(llmbackend.ConfigurationError, match="Vertex"):
        GEMINI.client(box).get_batch_status(place)
    assert box.requests() == []


# Gemini documents no number of rows.
@pytest.mark.parametrize(("named", "most"), [(OPENAI, 50_000), (ANTHROPIC, 100_000)], ids=["openai", "anthropic"])
def test_more_rows_than_a_job_holds(named: Provider, most: int, box: Any) -> None:
    with pytest.raises(llmbackend.ConfigurationError, match=str(most)):
        named.client(box).submit_batch(("a" for _ in range(most + 1)), batch_options=NATIVE)
    assert box.requests() == []


def test_gemini_goes_by_file_above_5000_rows(box: Any) -> None:
    client = GEMINI.client(box)
    assert submitted(client, 5_000).wait(POLL).results() == prompts(5_000)
    assert not any("/upload/" in path for _, path, _ in box.requests())
    assert submitted(client, 5_001).wait(POLL).results() == prompts(5_001)
    assert len([path for method, path, _ in box.requests() if "/upload/" in path and method == "POST"]) >= 1


def test_twenty_thousand(provider: Provider, client: Any) -> None:
    batch = submitted(client, 20_000).wait(POLL)
    assert batch.results() == prompts(20_000)
    assert client.fetch_batch_results(batch.id) == prompts(20_000)
