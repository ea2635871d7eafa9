"""Every way in which a job can end, and every oddity of its files: each input has exactly one outcome."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from support import POLL, Proxy, change_lines, gets, job, jobs, prompts, statuses

import llmbackend

COUNT = 9


def ended(client: Any, count: int = COUNT, **options: Any) -> Any:
    return client.submit_batch(prompts(count), **options).wait(POLL)


def one_outcome_each(batch: Any, **expected: int) -> list[Any]:
    items = list(batch.items())
    assert [item.index for item in items] == list(range(sum(expected.values())))
    assert Counter(item.status for item in items) == expected
    for item in items:
        assert (item.value is None) == (item.error is not None)
        if item.status == "succeeded":
            assert item.value == f"Prompt {item.index}"
    return items


@pytest.mark.parametrize(
    ("fault", "raw", "status", "words"),
    [
        ("expire_half", "expired", "expired", "completion window expired"),
        ("cancel_half", "cancelled", "cancelled", "not executed before the batch was cancelled"),
    ],
)
def test_half_a_job(box: Any, client: Any, fault: str, raw: str, status: str, words: str) -> None:
    box.fault(fault)
    batch = client.submit_batch(prompts(COUNT))
    with pytest.raises(llmbackend.BatchFailedError, match=rf"cancelled \('{raw}'\).*4 rows had finished") as caught:
        batch.wait(POLL)
    assert caught.value.batch_id == batch.id
    assert f"fetch_batch_results('{batch.id}'" in str(caught.value)
    assert (batch.status(), batch.normalized_status()) == (raw, "cancelled")
    items = one_outcome_each(batch, succeeded=4, **{status: 5})
    for item in items:
        if item.status == status:
            assert isinstance(item.error, llmbackend.BatchError)
            assert words in str(item.error)
            assert item.custom_id in str(item.error)
    with pytest.raises(llmbackend.BatchItemsError, match=f"5 of {COUNT} items have no value") as items_error:
        batch.results()
    assert len(items_error.value.errors) == 5
    assert [value for value in items_error.value.results if value] == [i.value for i in items if i.value]
    mixed = client.fetch_batch_results(batch.id, return_exceptions=True)
    assert [isinstance(one, llmbackend.BatchError) for one in mixed] == [item.status == status for item in items]
    assert len(jobs(box)) == 1


def test_a_job_cancelled_before_any_row(box: Any) -> None:
    with llmbackend.sandbox(speed=60) as slow:
        batch = llmbackend.create_batch(prompts(3), "openai", "m", **slow.options("openai"))
        batch.cancel()
        with pytest.raises(llmbackend.BatchFailedError, match="0 rows had finished"):
            batch.wait(POLL)
        for return_exceptions in (False, True):
            with pytest.raises(llmbackend.BatchFailedError, match="cancelled"):
                batch.results(return_exceptions)
        assert statuses(batch) == ["cancelled"] * 3


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("fail_job", ["could not be processed", "code server_error"]),
        ("token_limit_exceeded", ["Enqueued token limit", "code token_limit_exceeded", "Nothing ran: submit it again"]),
    ],
)
def test_a_failed_job(box: Any, client: Any, fault: str, words: list[str]) -> None:
    box.fault(fault)
    batch = client.submit_batch(prompts(COUNT))
    for call in (lambda: batch.wait(POLL), batch.results, batch.items, lambda: batch.results(return_exceptions=True)):
        with pytest.raises(llmbackend.BatchFailedError) as caught:
            call()
        assert isinstance(caught.value, RuntimeError)
        assert caught.value.batch_id == batch.id
        for word in (batch.id, "failed", *words):
            assert word in str(caught.value)
    assert gets(box, "/content") == []


def test_a_bad_line_fails_its_job_with_its_number(box: Any, client: Any) -> None:
    with Proxy(box) as proxy:
        spoil = lambda exchange: spoiled(exchange).forward()  # noqa: E731

        def spoiled(exchange: Any) -> Any:
            if exchange.path.endswith("/files"):
                exchange.body = exchange.body.replace(b'"Prompt 4"', b'"Prompt 4', 1)
            return exchange

        proxy.hook = spoil
        batch = llmbackend.create_batch(prompts(COUNT), "openai", "m", **proxy.options)
        with pytest.raises(llmbackend.BatchFailedError, match="line 5, code invalid_json_line"):
            batch.wait(POLL)


def test_failed_rows(box: Any, client: Any) -> None:
    box.fault("fail_lines")
    batch = ended(client)
    items = one_outcome_each(batch, succeeded=6, failed=3)
    error = items[2].error
    assert isinstance(error, llmbackend.InvalidRequestError)
    assert (error.status, error.code) == (400, "invalid_prompt")
    assert error.request_id
    assert "violating our usage policy" in str(error)


def test_nothing_but_failed_rows_is_completed_all_the_same(box: Any, client: Any) -> None:
    box.fault("failed_only")
    batch = ended(client)
    assert job(box, batch.id)["output_file_id"] is None
    one_outcome_each(batch, failed=COUNT)
    with pytest.raises(llmbackend.BatchItemsError, match=f"{COUNT} of {COUNT}.*the first is 0: openai: .*usage policy"):
        batch.results()


@pytest.mark.parametrize("faults", [["empty_error_file_id"], ["no_final_newline", "fail_lines"], ["wrong_file"]])
def test_odd_files(box: Any, client: Any, faults: list[str]) -> None:
    for fault in faults:
        box.fault(fault)
    batch = ended(client)
    failed = {"empty_error_file_id": 0, "no_final_newline": 3, "wrong_file": 1}[faults[0]]
    expected = {"succeeded": COUNT - failed} | ({"failed": failed} if failed else {})
    one_outcome_each(batch, **expected)
    one_outcome_each(client.get_batch(batch.id), **expected)


def test_a_line_that_is_missing(box: Any, client: Any) -> None:
    box.fault("drop_line")
    batch = ended(client)
    for seen in (batch, client.get_batch(batch.id)):
        items = one_outcome_each(seen, succeeded=COUNT - 1, missing=1)
        assert items[COUNT // 2].status == "missing"
        assert isinstance(items[COUNT // 2].error, llmbackend.BatchError)
        assert "no row" in str(items[COUNT // 2].error)
        assert "'llmb-000004'" in str(items[COUNT // 2].error)


def test_a_line_that_is_missing_among_custom_ids(box: Any, client: Any) -> None:
    box.fault("drop_line")
    ids = [f"id-{n}" for n in reversed(range(COUNT))]
    batch = ended(client, batch_options={"custom_ids": ids})
    for seen in (batch, client.get_batch(batch.id)):
        items = one_outcome_each(seen, succeeded=COUNT - 1, missing=1)
        assert [item.custom_id for item in items] == ids


@pytest.mark.parametrize("faults", [["duplicate_line"], ["lying_counts"], ["duplicate_line", "lying_counts"]])
def test_lines_and_counts_that_are_wrong(box: Any, client: Any, faults: list[str]) -> None:
    for fault in faults:
        box.fault(fault)
    batch = ended(client)
    assert batch.results() == prompts(COUNT)
    assert client.fetch_batch_results(batch.id) == prompts(COUNT)


def test_a_line_that_is_missing_behind_lying_counts(box: Any, client: Any) -> None:
    for fault in ("drop_line", "lying_counts"):
        box.fault(fault)
    batch = ended(client)
    for seen in (batch, client.get_batch(batch.id)):
        one_outcome_each(seen, succeeded=COUNT - 1, missing=1)


def test_line_separators_inside_a_text(box: Any, client: Any) -> None:
    box.fault("line_separator")
    assert ended(client).results() == [f"{text}\u2028|\x85" for text in prompts(COUNT)]


def test_refusals_and_cut_texts(box: Any, client: Any) -> None:
    box.fault("refuse_lines")
    items = one_outcome_each(ended(client), succeeded=6, refused=3)
    assert isinstance(items[2].error, llmbackend.RefusalError)
    assert items[2].error.text
    box.clear_faults()
    box.fault("truncate_lines")
    batch = ended(client)
    items = list(batch.items())
    assert [item.status for item in items] == ["succeeded", "succeeded", "truncated"] * 3
    assert items[2].value
    assert items[2].value != "Prompt 2"
    assert (items[2].error, items[2].finish_reason) == (None, "length")
    assert batch.results()[2] == items[2].value  # a cut text is a value


ANSWERS = {
    "refusal": ("refused", llmbackend.RefusalError),
    "content_filter": ("refused", llmbackend.ContentFilterError),
    "reasoning_only": ("truncated", llmbackend.TruncatedError),
    "failed_200": ("failed", llmbackend.APIError),
    "null_output": ("failed", llmbackend.OutputError),
}


@pytest.mark.parametrize("fault", ANSWERS)
def test_answers_without_a_value(box: Any, client: Any, fault: str) -> None:
    status, kind = ANSWERS[fault]
    box.fault(f"{fault}@POST /v1/batches")
    for item in one_outcome_each(ended(client), **{status: COUNT}):
        assert isinstance(item.error, kind)
        assert str(item.error)


def test_commentary_is_no_answer(box: Any, client: Any) -> None:
    box.fault("commentary@POST /v1/batches")
    assert ended(client).results() == prompts(COUNT)


SCHEMA = {"type": "object", "properties": {"t": {"type": "string"}}, "required": ["t"], "additionalProperties": False}


@pytest.mark.parametrize("fault", ["truncated", "refusal"])
def test_answers_to_a_schema_without_a_value(box: Any, client: Any, fault: str) -> None:
    box.fault(f"{fault}@POST /v1/batches")
    status = {"truncated": "truncated", "refusal": "refused"}[fault]
    for item in one_outcome_each(ended(client, schema=SCHEMA), **{status: COUNT}):
        assert isinstance(item.error, llmbackend.OutputError)


def row(custom_id: Any, text: str | None = None, **more: Any) -> bytes:
    if text is not None:
        content = [{"type": "output_text", "text": text}]
        output = [{"type": "message", "role": "assistant", "status": "completed", "content": content}]
        body = {"object": "response", "status": "completed", "error": None, "output": output}
        more["response"] = {"status_code": 200, "request_id": "r", "body": body}
    return json.dumps({"id": "x", "custom_id": custom_id, "error": None} | more).encode()


def by_hand(client: Any, proxy: Proxy, change: Any) -> Any:
    """A batch of three whose lines are edited on their way."""
    batch = client.submit_batch(["a", "b", "c"]).wait(POLL)
    proxy.hook = change_lines(lambda lines: change(sorted(lines, key=lambda line: json.loads(line)["custom_id"])))
    through = llmbackend.client("openai", "gpt-4o-mini", **proxy.options)
    return through.get_batch(batch.id)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda rows: [*rows, row("llmb-000001", "later")], ["a", "later", "c"]),
        (lambda rows: [row("llmb-000001", "earlier"), *rows], ["a", "b", "c"]),
        (lambda rows: [*rows, row("llmb-000001", response=None, error={"code": "x", "message": "y"})], ["a", "b", "c"]),
        (lambda rows: [row("llmb-000001", response={"status_code": 500, "body": {}}), *rows], ["a", "b", "c"]),
        (lambda rows: [line.replace(b"{", b" {", 1) + b" \r" for line in rows], ["a", "b", "c"]),
    ],
    ids=["last success", "first", "success before failure", "failure before success", "blanks"],
)
def test_several_lines_for_one_input(box: Any, client: Any, change: Any, expected: list[str]) -> None:
    with Proxy(box) as proxy:
        assert by_hand(client, proxy, change).results() == expected


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        (row("llmb-000001", response=None), llmbackend.ServerError, "no reason is given"),
        (row("llmb-000001", response=None, error={"code": "batch_expired"}), llmbackend.BatchError, "expired"),
        (
            row("llmb-000001", response={"status_code": 429, "body": {"error": {"message": "slow"}}}),
            llmbackend.RateLimitError,
            "slow",
        ),
        (row("llmb-000001", response={"status_code": 503, "body": "<html>"}), llmbackend.ServerError, "html"),
        (row("llmb-000001", response={"status_code": 200, "body": None}), llmbackend.APIError, "no response object"),
        (
            row("llmb-000001", response={"status_code": 200, "body": {"status": "in_progress"}}),
            llmbackend.APIError,
            "in_progress",
        ),
        (b'{"custom_id":"llmb-000001"}', llmbackend.APIError, "no response"),
    ],
)
def test_lines_without_an_answer(box: Any, client: Any, line: bytes, kind: Any, words: str) -> None:
    with Proxy(box) as proxy:
        batch = by_hand(client, proxy, lambda rows: [rows[2], line, rows[0]])
        first, error, last = batch.results(return_exceptions=True)
        assert (first, last) == ("a", "c")
        assert isinstance(error, kind)
        assert words in str(error)


@pytest.mark.parametrize(
    "stray",
    [
        row("llmb-000099", "stranger"),
        row("stranger", "stranger"),
        row("llmb-1", "not quite"),
        b"this is no JSON",
        b'{"custom_id":"llmb-000001","response":{"status_code":200,"bo',
        b"[]",
        b"null",
        row(None, "nobody's"),
        b'{"id":"without a custom_id"}',
    ],
)
def test_lines_that_answer_nobody(box: Any, client: Any, stray: bytes) -> None:
    with Proxy(box) as proxy:
        batch = by_hand(client, proxy, lambda rows: [rows[2], stray, rows[1], rows[0]])
        named = stray.startswith(b'{"id": "x", "custom_id": "')
        words = "have ids that it never sent" if named else "are no JSON or have no id"
        with pytest.warns(UserWarning, match=f"1 rows of results {words}"):
            assert batch.results() == ["a", "b", "c"]


def test_a_line_that_is_broken_counts_as_missing(box: Any, client: Any) -> None:
    with Proxy(box) as proxy:
        batch = by_hand(client, proxy, lambda rows: [rows[2], rows[1][:80], rows[0]])
        with pytest.warns(UserWarning, match="1 rows of results"):
            found = statuses(batch)
        assert found == ["succeeded", "missing", "succeeded"]


def test_custom_ids_that_came_back_as_numbers(box: Any, client: Any) -> None:
    batch = ended(client, 3, batch_options={"custom_ids": ["30", "20", "10"]})
    with Proxy(box) as proxy:

        def unquote(lines: list[bytes]) -> list[bytes]:
            values = [json.loads(line) for line in lines]
            return [json.dumps(value | {"custom_id": int(value["custom_id"])}).encode() for value in values]

        proxy.hook = change_lines(unquote)
        assert llmbackend.fetch_batch_results(batch.id, "openai", "m", **proxy.options) == prompts(3)


@pytest.mark.parametrize("state", ["COMPLETED", "Completed"])
def test_states_are_compared_without_case(box: Any, client: Any, state: str) -> None:
    batch = ended(client, 2)
    with Proxy(box) as proxy:

        def hook(exchange: Any) -> Any:
            reply = exchange.forward()
            reply.body = reply.body.replace(
                b'"status":"completed","output_file_id"', b'"status":"completed","output_file_id"'
            )
            if "/batches/" in exchange.path:
                value = reply.json | {"status": state}
                reply.body = json.dumps(value).encode()
            return reply

        proxy.hook = hook
        again = llmbackend.get_batch(batch.id, "openai", "m", **proxy.options).wait(POLL)
        assert (again.status(), again.normalized_status()) == (state, "completed")
        assert again.results() == prompts(2)


def test_an_unknown_state_is_no_end(box: Any, client: Any) -> None:
    batch = ended(client, 2)
    states = ["resting", "dreaming"]
    with Proxy(box) as proxy:

        def hook(exchange: Any) -> Any:
            reply = exchange.forward()
            if "/batches/" in exchange.path and states:
                reply.body = json.dumps(reply.json | {"status": states.pop(0)}).encode()
            return reply

        proxy.hook = hook
        again = llmbackend.get_batch(batch.id, "openai", "m", **proxy.options)
        seen: list[str] = []
        again.wait(POLL, callback=seen.append)
        assert seen == ["in_progress", "in_progress", "completed"]
