"""Result rows that have lost their ids: taken where there is one way to take them, missing where there are more."""

from __future__ import annotations

import json
from typing import Any

import pytest
from gemini_wire import candidate, inlined, operation
from job_script import IDS, anthropic_job, anthropic_row, gemini_row, lines, made, openai_job, openai_row, scripted
from support import Reply
from test_result_files import caught

import llmbackend

INPUTS = ["a", "b", "c"]
IN_ORDER = "none of the 3 result rows has an id; as they are as many as the inputs, they are taken in their order"
UNASSIGNED = "rows of results are no JSON or have no id"
DEFAULT = [f"llmb-00000{n}" for n in range(3)]


def job(provider: str, rows: list[Any], total: Any = 3) -> tuple[Any, dict[str, Reply | None]]:
    """A job that ended with these rows, made of (id, text)."""
    if provider == "gemini":
        stats = {} if total is None else {"batchStats": {"requestCount": str(total)}}
        return operation(done=True, response=inlined(*[gemini_row(*row) for row in rows]), **stats), {}
    if provider == "anthropic":
        return anthropic_job(succeeded=total), {"/results": lines(*[anthropic_row(*row) for row in rows])}
    files: dict[str, Reply | None] = {"file-out/content": lines(*[openai_row(*row) for row in rows])}
    return openai_job(total=total, completed=total, failed=0, error_file_id=None), files


def opened(provider: str, client: llmbackend.Client, by_id: bool) -> llmbackend.Batch:
    return client.get_batch(IDS[provider]) if by_id else made(client, INPUTS)


BOTH = pytest.mark.parametrize("by_id", [False, True])
ALL = pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])


@BOTH
@ALL
def test_as_many_rows_as_inputs_are_taken_in_order_with_a_warning(box: Any, provider: str, by_id: bool) -> None:
    with scripted(box, provider, *job(provider, [(None, "A"), (None, "B"), (None, "C")])) as (_, client):
        batch = opened(provider, client, by_id)
        results, warned = caught(batch.results)
        assert results == ["A", "B", "C"]
        [warning] = warned
        assert IN_ORDER in warning
        assert [item.custom_id for item in batch.items()] == DEFAULT


@BOTH
@ALL
@pytest.mark.parametrize(
    "more", [[], [("llmb-000000", "A")], [("stranger", "S")]], ids=["", "a duplicate", "a stranger"]
)
def test_one_row_is_that_of_the_only_input_left(box: Any, provider: str, by_id: bool, more: Any) -> None:
    rows = [("llmb-000002", "C"), (None, "B"), ("llmb-000000", "A"), *more]
    with scripted(box, provider, *job(provider, rows)) as (_, client):
        results, warned = caught(opened(provider, client, by_id).results)
        assert results == ["A", "B", "C"]
        assert ["it is taken for the answer to input 1, the only one without a row" in text for text in warned].count(
            True
        ) == 1


@BOTH
@ALL
@pytest.mark.parametrize(
    ("rows", "statuses"),
    [
        ([(None, "A"), (None, "B")], ["missing"] * 3),
        ([(None, text) for text in "ABCD"], ["missing"] * 3),
        ([("llmb-000000", "A"), (None, "B"), (None, "C")], ["succeeded", "missing", "missing"]),
        ([("llmb-000000", "A"), ("llmb-000000", "A"), (None, "B")], ["succeeded", "missing", "missing"]),
        ([(None, "A"), ("stranger", "B"), (None, "C")], ["missing"] * 3),
    ],
    ids=["too few", "too many", "two of three", "beside a duplicate", "beside a stranger"],
)
def test_a_count_that_does_not_fit_stays_missing(
    box: Any, provider: str, by_id: bool, rows: list[Any], statuses: list[str]
) -> None:
    if by_id and ("stranger", "B") in rows:
        # Nobody knows there that it is one: its row comes first, and two inputs are left.
        statuses = ["succeeded", "missing", "missing"]
    with scripted(box, provider, *job(provider, rows)) as (_, client):
        items, warned = caught(lambda: list(opened(provider, client, by_id).items()))
        assert [item.status for item in items] == statuses
        without = len([row for row in rows if row[0] is None])
        reason = f"{without} result rows have no id, and it is not known whether one of them answers it"
        assert [reason in str(item.error) for item in items if item.status == "missing"] == [True] * statuses.count(
            "missing"
        )
        assert [f"{without} {UNASSIGNED}" in text for text in warned].count(True) == 1


NO_IDS = [None, "", "  ", {}, [], ["llmb-000000"], True]


@ALL
@pytest.mark.parametrize("none", NO_IDS, ids=repr)
def test_an_id_that_is_no_text_and_no_number_is_none(box: Any, provider: str, none: Any) -> None:
    rows = [(none, "A"), (none, "B"), (none, "C")]
    found, files = job(provider, rows)
    if provider == "gemini":
        found = operation(
            done=True, response=inlined(*[{"response": candidate(t), "metadata": {"key": none}} for _, t in rows])
        )
    with (
        scripted(box, provider, found, files) as (_, client),
        pytest.warns(UserWarning, match="has an id; as they are as many"),
    ):
        assert made(client, INPUTS).results() == ["A", "B", "C"]


@pytest.mark.parametrize("metadata", [None, {}, {"key": None}, {"key": ""}, {"other": "x"}, "x", []], ids=repr)
def test_metadata_without_a_key_is_no_id(box: Any, metadata: Any) -> None:
    row = {"response": candidate("A"), "metadata": metadata}
    with (
        scripted(box, "gemini", operation(done=True, response=inlined(row)), {}) as (_, client),
        pytest.warns(UserWarning, match="taken for the answer to input 0"),
    ):
        assert made(client, ["a"]).results() == ["A"]


def test_ids_that_came_back_as_numbers_are_ids(box: Any) -> None:
    rows = [(3, "C"), (2, "B"), (None, "A")]
    with scripted(box, "openai", *job("openai", rows)) as (_, client):
        batch = made(client, INPUTS, custom_ids=["1", "2", "3"])
        with pytest.warns(UserWarning, match="taken for the answer to input 0"):
            assert batch.results() == ["A", "B", "C"]


def test_a_row_without_an_id_may_be_an_error(box: Any) -> None:
    rows = [gemini_row(None, "A"), {"error": {"code": 3, "message": "bad prompt"}}, gemini_row(None, "C")]
    with (
        scripted(box, "gemini", operation(done=True, response=inlined(*rows)), {}) as (_, client),
        pytest.warns(UserWarning, match=IN_ORDER),
    ):
        first, error, last = made(client, INPUTS).results(return_exceptions=True)
    assert (first, last) == ("A", "C")
    assert isinstance(error, llmbackend.InvalidRequestError)
    assert "bad prompt" in str(error)


@pytest.mark.parametrize(
    "line", [b'{"custom_id":"llmb-000001","response":{"status_code":200,"bo', b"[]", b"null", b'{"id":"x"}', b"<html>"]
)
def test_a_line_that_is_no_row_is_not_taken_for_the_input_that_is_left(box: Any, line: bytes) -> None:
    files = {"file-out/content": lines(openai_row("llmb-000000", "A"), line, openai_row("llmb-000002", "C"))}
    with (
        scripted(box, "openai", openai_job(error_file_id=None), files) as (_, client),
        pytest.warns(UserWarning, match=f"1 {UNASSIGNED}"),
    ):
        items = list(made(client, INPUTS).items())
    assert [item.status for item in items] == ["succeeded", "missing", "succeeded"]
    assert "1 lines of the results are not result rows" in str(items[1].error)


def test_rows_of_two_files_have_no_order(box: Any) -> None:
    files = {
        "file-out/content": lines(openai_row(None, "A"), openai_row(None, "C")),
        "file-err/content": lines(openai_row(None, None)),
    }
    with (
        scripted(box, "openai", openai_job(), files) as (_, client),
        pytest.warns(UserWarning, match=f"3 {UNASSIGNED}"),
    ):
        assert [item.status for item in made(client, INPUTS).items()] == ["missing"] * 3


def test_one_row_without_an_id_in_the_error_file_is_that_of_the_only_input_left(box: Any) -> None:
    output = lines(openai_row("llmb-000000", "A"), openai_row("llmb-000002", "C"))
    files = {"file-out/content": output, "file-err/content": lines(openai_row(None, None))}
    with (
        scripted(box, "openai", openai_job(), files) as (_, client),
        pytest.warns(UserWarning, match="taken for the answer to input 1"),
    ):
        items = list(made(client, INPUTS).items())
    assert [item.status for item in items] == ["succeeded", "failed", "succeeded"]


def test_where_no_count_is_told_rows_without_ids_are_missing_and_not_lost(box: Any) -> None:
    with (
        scripted(box, "gemini", *job("gemini", [(None, "A"), (None, "B")], None)) as (_, client),
        pytest.warns(UserWarning, match=f"2 {UNASSIGNED}"),
    ):
        assert [item.status for item in client.get_batch("b1").items()] == ["missing"] * 2


def test_rows_of_a_stopped_job_that_may_be_an_answer_leave_no_input_unprocessed(box: Any) -> None:
    stopped = operation("CANCELLED", done=True, output=inlined(gemini_row(None, "A")), batchStats={"requestCount": "3"})
    with scripted(box, "gemini", stopped, {}) as (_, client), pytest.warns(UserWarning, match=f"1 {UNASSIGNED}"):
        assert [item.status for item in client.get_batch("b1").items()] == ["missing"] * 3


def test_the_file_of_a_large_job_of_gemini_may_have_lost_its_keys_too(box: Any) -> None:
    done = operation(done=True, response={"responsesFile": "files/out"}, batchStats={"requestCount": "3"})
    file = lines(*[json.dumps({"response": candidate(text)}).encode() for text in "ABC"])
    with (
        scripted(box, "gemini", done, {"files/out:download": file}) as (_, client),
        pytest.warns(UserWarning, match=IN_ORDER),
    ):
        assert client.fetch_batch_results("b1") == ["A", "B", "C"]


def test_the_row_of_an_unnamed_input_is_found_by_the_count_of_anthropic(box: Any) -> None:
    rows = [("row-10", "ten"), (None, "lost"), ("row-9", "nine")]
    with scripted(box, "anthropic", *job("anthropic", rows)) as (_, client):
        items, warned = caught(lambda: list(client.get_batch(IDS["anthropic"]).items()))
    assert [(item.custom_id, item.value) for item in items] == [("row-9", "nine"), ("row-10", "ten"), ("", "lost")]
    assert len(warned) == 2
