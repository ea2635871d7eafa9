"""Batches, from inputs to results in their order, in this process and in another."""

from __future__ import annotations

import json
import pickle
import random
import sys
import time
from typing import Any

import pytest
from support import POLL, ask, delete_input, gets, job, jobs, posts, prompts, run_python, statuses

import llmbackend
from llmbackend import GenerationConfig


def done(client: Any, inputs: Any, **options: Any) -> Any:
    return client.submit_batch(inputs, **options).wait(POLL)


FETCH = """
import json, sys, llmbackend
options, batch_id = json.loads(sys.argv[1]), sys.argv[2]
print(json.dumps(llmbackend.fetch_batch_results(batch_id, "openai", "gpt-4o-mini", **options)))
"""


def fetched_elsewhere(box: Any, batch_id: str) -> list[str]:
    found = json.loads(run_python(FETCH, json.dumps(box.options("openai")), batch_id))
    assert isinstance(found, list)
    return found


def test_the_whole_way(box: Any, client: Any) -> None:
    batch = client.submit_batch(prompts(30))
    assert batch.id.startswith("batch_")
    assert batch.status() in ("validating", "in_progress", "finalizing", "completed")
    assert batch.normalized_status() in ("pending", "in_progress", "completed")
    seen: list[str] = []
    assert batch.wait(poll_interval=POLL, timeout=20, callback=seen.append) is batch
    assert client.get_batch(batch.id).wait(POLL, timeout=float("inf")).id == batch.id
    assert client.get_batch(batch.id).wait(POLL, timeout=1e300).id == batch.id
    assert seen[-1] == "completed"
    assert set(seen) <= {"pending", "in_progress", "completed"}
    assert (batch.status(), batch.normalized_status()) == ("completed", "completed")
    assert batch.results() == prompts(30)
    items = list(batch.items())
    assert [item.index for item in items] == list(range(30))
    assert [item.custom_id for item in items[:2]] == ["llmb-000000", "llmb-000001"]
    first = items[0]
    assert (first.status, first.value, first.text, first.error, first.finish_reason) == (
        "succeeded",
        "Prompt 0",
        "Prompt 0",
        None,
        "stop",
    )
    assert first.usage.input_tokens > 0
    assert posts(box) == [200]
    assert posts(box, "/v1/files") == [200]


def test_the_functions_without_a_client(box: Any) -> None:
    options = box.options("openai")
    batch = llmbackend.create_batch(prompts(3), provider="openai", model="gpt-4o-mini", **options)
    status = llmbackend.get_batch_status(batch.id, "openai", "gpt-4o-mini", **options)
    assert status["batch_id"] == batch.id
    assert status["provider"] == "openai"
    assert status["state"] in ("pending", "in_progress", "completed")
    while status["state"] not in ("completed", "failed", "cancelled"):
        time.sleep(POLL)
        status = llmbackend.get_batch_status(batch.id, "openai", "gpt-4o-mini", **options)
    assert status == {"state": "completed", "provider": "openai", "raw_state": "completed", "batch_id": batch.id}
    assert llmbackend.fetch_batch_results(batch.id, "openai", "gpt-4o-mini", **options) == prompts(3)
    assert llmbackend.get_batch(batch.id, "openai", "gpt-4o-mini", **options).wait(POLL).results() == prompts(3)


def test_a_completed_batch_is_asked_for_nothing_again(box: Any, client: Any) -> None:
    batch = done(client, prompts(3))
    assert batch.results() == prompts(3)
    before = len(box.requests())
    seen: list[str] = []
    assert batch.wait(POLL, callback=seen.append) is batch
    assert seen == ["completed"]
    assert batch.results() == prompts(3)
    assert statuses(batch) == ["succeeded"] * 3
    assert (batch.status(), batch.normalized_status()) == ("completed", "completed")
    assert len(box.requests()) == before


def test_a_polling_loop_by_hand(client: Any) -> None:
    batch = client.submit_batch(prompts(2))
    end = time.monotonic() + 20
    while batch.normalized_status() not in ("completed", "failed", "cancelled"):
        assert time.monotonic() < end
        time.sleep(POLL)
    assert batch.results() == prompts(2)


def test_results_before_the_end(box: Any) -> None:
    with llmbackend.sandbox(speed=1) as slow:
        batch = llmbackend.create_batch(["a"], "openai", "m", **slow.options("openai"))
        for early in (batch.results, batch.items):
            with pytest.raises(llmbackend.BatchNotCompletedError, match="pending.*wait") as caught:
                early()
            assert isinstance(caught.value, RuntimeError)
            assert caught.value.batch_id == batch.id


def test_a_timeout_of_zero_looks_once() -> None:
    with llmbackend.sandbox(speed=1) as slow:
        batch = llmbackend.create_batch(["a"], "openai", "m", **slow.options("openai"))
        seen: list[str] = []
        with pytest.raises(llmbackend.BatchTimeoutError) as caught:
            batch.wait(timeout=0, callback=seen.append)
        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value, RuntimeError)
        assert caught.value.batch_id == batch.id
        assert "still pending" in str(caught.value)
        assert "goes on at the provider" in str(caught.value)
        assert seen == ["pending"]
        assert len(gets(slow, batch.id)) == 1
        started = time.monotonic()
        with pytest.raises(llmbackend.BatchTimeoutError):
            batch.wait(poll_interval=0.05, timeout=0.3, callback=seen.append)
        assert 0.3 <= time.monotonic() - started < 2
        assert 4 <= len(seen) <= 8


def test_a_short_job_is_not_waited_for_long(client: Any) -> None:
    batch = client.submit_batch(["a"])
    started = time.monotonic()
    batch.wait()  # every 5 s, if it took long
    assert time.monotonic() - started < 2


def test_an_interval_of_zero_does_not_hammer() -> None:
    with llmbackend.sandbox(speed=1) as slow:
        batch = llmbackend.create_batch(["a"], "openai", "m", **slow.options("openai"))
        seen: list[str] = []
        with pytest.raises(llmbackend.BatchTimeoutError):
            batch.wait(poll_interval=0, timeout=0.2, callback=seen.append)
        assert 2 <= len(seen) <= 22


def test_a_completed_batch_in_time_zero(client: Any) -> None:
    batch = done(client, ["a"])
    again = client.get_batch(batch.id)
    assert again.wait(timeout=0).results() == ["a"]


@pytest.mark.parametrize(
    "make",
    [list, tuple, iter, lambda some: (one for one in some), dict.fromkeys, lambda some: map(str, some)],
    ids=["list", "tuple", "iterator", "generator", "dict_keys", "map"],
)
def test_any_iterable(client: Any, make: Any) -> None:
    inputs = make(prompts(5))
    if isinstance(inputs, dict):
        inputs = inputs.keys()
    assert done(client, inputs).results() == prompts(5)


class Pulled:
    """Counts how often it is begun, and never knows its length."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.begun = 0

    def __iter__(self) -> Any:
        self.begun += 1
        return iter(prompts(self.count))

    def __len__(self) -> int:
        raise AssertionError("nobody needs to know")


def test_inputs_are_read_once(client: Any) -> None:
    inputs = Pulled(2500)
    batch = done(client, inputs)
    assert inputs.begun == 1
    assert batch.results() == prompts(2500)


def test_an_empty_list(box: Any, client: Any) -> None:
    for inputs in ([], (), iter(())):
        batch = client.submit_batch(inputs)
        assert isinstance(batch, llmbackend.CompletedBatch)
        assert isinstance(batch, llmbackend.Batch)
        seen: list[str] = []
        assert batch.wait(callback=seen.append) is batch
        assert batch.wait(timeout=0, progress=True) is batch
        assert seen == ["completed"]
        assert batch.results() == []
        assert batch.results(return_exceptions=True) == []
        assert list(batch.items()) == []
        assert (batch.status(), batch.normalized_status()) == ("completed", "completed")
        batch.cancel()
        options = box.options("openai")
        status = llmbackend.get_batch_status(batch.id, "openai", "m", **options)
        assert status == {"state": "completed", "provider": "openai", "raw_state": "completed", "batch_id": batch.id}
        assert llmbackend.fetch_batch_results(batch.id, "openai", "m", **options) == []
        batch_id = batch.id
        del batch
        with pytest.raises(llmbackend.BatchError, match="was immediate") as caught:
            llmbackend.get_batch_status(batch_id, "openai", "m", **options)
        assert caught.value.batch_id == batch_id
        with pytest.raises(llmbackend.BatchError, match="was immediate"):
            llmbackend.fetch_batch_results(batch_id, "openai", "m", **options)
    assert box.requests() == []


def test_empty_batches_have_different_ids(client: Any) -> None:
    batches = [client.submit_batch([]) for _ in range(10)]
    assert len({batch.id for batch in batches}) == 10


def test_default_ids_from_another_process(box: Any, client: Any) -> None:
    batch = done(client, prompts(1200))
    assert fetched_elsewhere(box, batch.id) == prompts(1200)


def test_custom_ids_from_another_process(box: Any, client: Any) -> None:
    ids = [f"user-{n}/é" for n in range(3000)]
    random.Random(1).shuffle(ids)
    batch = client.submit_batch(prompts(3000), batch_options={"custom_ids": iter(ids)}).wait(POLL)
    assert batch.results() == prompts(3000)
    assert [item.custom_id for item in batch.items()] == ids
    assert fetched_elsewhere(box, batch.id) == prompts(3000)


def test_custom_ids_when_the_input_file_is_gone(box: Any, client: Any) -> None:
    ids = [f"row-{n}" for n in range(12)]
    shuffled = random.Random(3).sample(ids, 12)
    batch = done(client, shuffled, batch_options={"custom_ids": shuffled})
    delete_input(box, batch.id)
    again = client.get_batch(batch.id)
    with pytest.warns(UserWarning, match="natural order of their custom ids"):
        assert again.results() == ids  # row-2 before row-10
    assert batch.results() == shuffled  # whoever made it knows


def test_default_ids_need_no_input_file(box: Any, client: Any) -> None:
    batch = done(client, prompts(12))
    delete_input(box, batch.id)
    assert client.get_batch(batch.id).results() == prompts(12)


def test_display_name_and_metadata(box: Any, client: Any) -> None:
    batch = client.submit_batch(["a"], batch_options={"display_name": "naïve 日本", "completion_window": "24h"})
    assert job(box, batch.id)["metadata"] == {"display_name": "naïve 日本"}
    assert job(box, batch.id)["completion_window"] == "24h"


def test_windows(box: Any, client: Any) -> None:
    with pytest.raises(llmbackend.InvalidRequestError, match="'48h'") as caught:
        client.submit_batch(["a"], batch_options={"completion_window": "48h"})
    assert caught.value.status == 400
    assert "completion_window" in caught.value.body
    assert jobs(box) == []
    before = len(box.requests())
    with pytest.raises(llmbackend.ConfigurationError, match="completion_window.*12h.*24h"):
        client.submit_batch(["a"], batch_options={"completion_window": "12h"})
    assert len(box.requests()) == before


def test_stop_strings_are_applied_by_another_process(box: Any, client: Any) -> None:
    texts = ["one STOP two", "no end", "first END second STOP"]
    batch = client.submit_batch(texts, GenerationConfig(extra={"stop": ["STOP", "END"]})).wait(POLL)
    assert batch.results() == ["one ", "no end", "first "]
    assert client.get_batch(batch.id).results() == ["one ", "no end", "first "]
    assert fetched_elsewhere(box, batch.id) == ["one ", "no end", "first "]


def test_stop_strings_that_do_not_fit(box: Any, client: Any) -> None:
    with pytest.raises(llmbackend.ConfigurationError, match=r'extra\["stop"\].*metadata'):
        client.submit_batch(["a"], {"extra": {"stop": ["x" * 600]}})
    assert box.requests() == []


def input_rows(box: Any, batch_id: str) -> list[dict[str, Any]]:
    import urllib.request

    url = f"{box.url('openai')}/files/{job(box, batch_id)['input_file_id']}/content"
    request = urllib.request.Request(url, headers={"Authorization": "Bearer sandbox"})
    with urllib.request.urlopen(request) as reply:
        return [json.loads(line) for line in reply.read().split(b"\n") if line]


def test_the_rows_that_are_sent(box: Any, client: Any) -> None:
    config = GenerationConfig(temperature=0.5, top_p=0.9, max_tokens=50, extra={"metadata": {"k": "v"}})
    texts = ['quote " and \\ and \n', "\u2028 é 日本 😀 \x00\x1f\x7f", ""]
    batch = client.submit_batch(texts, config, batch_options={"system": "Be kind."})
    rows = input_rows(box, batch.id)
    for index, (row, text) in enumerate(zip(rows, texts, strict=True)):
        body = {
            "model": "gpt-4o-mini",
            "temperature": 0.5,
            "top_p": 0.9,
            "max_output_tokens": 50,
            "metadata": {"k": "v"},
            "instructions": "Be kind.",
            "input": text,
        }
        assert row == {"custom_id": f"llmb-{index:06}", "method": "POST", "url": "/v1/responses", "body": body}
    assert batch.wait(POLL).results(return_exceptions=True)[:2] == texts[:2]


def test_system_in_three_places(box: Any, client: Any) -> None:
    batch = client.submit_batch(["a"], {"extra": {"system": "S"}}, batch_options={"system": "S"})
    assert input_rows(box, batch.id)[0]["body"]["instructions"] == "S"
    with pytest.raises(llmbackend.ConfigurationError, match="different texts"):
        client.submit_batch(["a"], {"extra": {"system": "S"}}, batch_options={"system": "T"})


def test_conversations(box: Any, client: Any) -> None:
    turns = [[{"role": "user", "content": f"Hi {n}"}, {"role": "assistant", "content": "Yes?"}] for n in range(3)]
    inputs = [[*one, {"role": "user", "content": f"Last {n}"}] for n, one in enumerate(turns)]
    direct = client.submit_batch(inputs, batch_options={"system": "S"})
    by_config = client.submit_batch(["x"] * 3, {"extra": {"conversations": inputs}}, batch_options={"system": "S"})
    for batch in (direct, by_config):
        bodies = [row["body"] for row in input_rows(box, batch.id)]
        assert [body["input"] for body in bodies] == inputs
        assert [body["instructions"] for body in bodies] == ["S"] * 3
        assert [text[-6:] for text in batch.wait(POLL).results()] == ["Last 0", "Last 1", "Last 2"]
    mixed = done(client, ["text", inputs[0]])
    assert mixed.results()[0] == "text"


def test_cancel(box: Any) -> None:
    with llmbackend.sandbox(speed=60) as slow:
        batch = llmbackend.create_batch(prompts(9), "openai", "m", **slow.options("openai"))
        end = time.monotonic() + 20
        while batch.status() != "in_progress" and time.monotonic() < end:
            time.sleep(POLL)
        time.sleep(0.3)
        batch.cancel()
        with pytest.raises(llmbackend.BatchFailedError, match=r"cancelled.*rows had finished.*items\(\)") as caught:
            batch.wait(POLL)
        assert batch.id in str(caught.value)
        found = statuses(batch)
        assert set(found) == {"succeeded", "cancelled"}
        assert len(found) == 9


def test_a_handle_shows_what_it_is(client: Any) -> None:
    batch = done(client, ["a"])
    assert repr(batch) == f"Batch('{batch.id}', provider='openai')"
    assert repr(next(batch.items())) == ("BatchItem(index=0, custom_id='llmb-000000', status='succeeded', value='a')")


def test_an_unknown_batch(client: Any) -> None:
    batch = client.get_batch("batch_none")
    for call in (batch.status, batch.results, batch.cancel, lambda: batch.wait(POLL)):
        with pytest.raises(llmbackend.NotFoundError, match="batch_none"):
            call()


def test_fifty_thousand_prompts(box: Any, client: Any) -> None:
    inputs = prompts(50_000)
    started = time.monotonic()
    batch = client.submit_batch(iter(inputs)).wait(0.05)
    assert batch.results() == inputs
    assert time.monotonic() - started < 30
    assert posts(box) == [200]
    assert ask(f"{box.url('openai')}/batches/{batch.id}")["request_counts"]["completed"] == 50_000


def test_one_prompt_too_many(box: Any, client: Any) -> None:
    with pytest.raises(llmbackend.ConfigurationError, match="at most 50000 prompts"):
        client.submit_batch(f"{n}" for n in range(50_001))
    assert box.requests() == []


def test_too_many_bytes(box: Any, client: Any) -> None:
    prompt = "x" * 21_000_000
    pulled = []

    def inputs() -> Any:
        for n in range(1000):
            pulled.append(n)
            yield prompt

    with pytest.raises(llmbackend.ConfigurationError, match="at most 200000000 bytes.* 10 prompts"):
        client.submit_batch(inputs())
    assert len(pulled) < 20  # nothing is pulled in vain
    assert box.requests() == []


def test_inputs_that_use_the_client_themselves(box: Any, client: Any) -> None:
    batch = client.submit_batch(client.get_response(prompt) for prompt in prompts(3))
    batch.wait(POLL, callback=lambda state: batch.status())
    assert batch.results() == prompts(3)
    chained = client.submit_batch(item.value for item in batch.items())
    assert chained.wait(POLL).results() == prompts(3)


class Word(str):
    pass


def test_prompts_and_ids_of_odd_kinds(client: Any) -> None:
    ids = [Word('quote " \n\u2028 😀'), "llmb-1", " blank ", "x" * 300]
    batch = done(client, map(Word, prompts(4)), batch_options={"custom_ids": ids})
    again = client.get_batch(batch.id)
    assert [item.custom_id for item in again.items()] == ids
    assert again.results() == prompts(4)


@pytest.mark.parametrize("with_tqdm", [True, False])
def test_a_progress_bar(client: Any, capsys: Any, monkeypatch: Any, with_tqdm: bool) -> None:
    if with_tqdm:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    batch = client.submit_batch(prompts(3))
    seen: list[str] = []
    assert batch.wait(POLL, callback=seen.append, progress=True) is batch
    out, bar = capsys.readouterr()
    assert out == ""
    assert batch.id in bar
    assert "3/3" in bar
    assert "completed" in bar
    assert seen[-1] == "completed"


def test_errors_of_a_batch_can_be_pickled(box: Any, client: Any) -> None:
    box.fault("fail_lines")
    batch = done(client, prompts(3))
    with pytest.raises(llmbackend.BatchItemsError) as caught:
        batch.results()
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.batch_id, again.results) == (str(caught.value), batch.id, [*prompts(2), None])
    assert isinstance(again.errors[2], llmbackend.InvalidRequestError)
    assert again.errors[2].code == "invalid_prompt"
