"""Each result file of a job is read on its own: one that cannot be read hides no other, and is asked for again."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest
from gemini_wire import inlined, operation
from job_script import (
    BUSY,
    EMPTY,
    GONE,
    IDS,
    PAGE,
    anthropic_job,
    anthropic_row,
    gemini_row,
    lines,
    made,
    openai_job,
    openai_row,
    scripted,
)
from support import Reply

import llmbackend

INPUTS = ["a", "b", "c"]
OUTPUT = lines(openai_row("llmb-000002", "C"), openai_row("llmb-000000", "A"))
ERRORS = lines(openai_row("llmb-000001", None))
SENT = lines(*[{"custom_id": f"llmb-00000{n}", "url": "/v1/responses"} for n in range(3)])
FULL = {"file-out/content": OUTPUT, "file-err/content": ERRORS, "file-in/content": SENT}

GARBAGE = Reply(200, {"content-type": "application/json"}, b'{"error": {"message": "the file has expired"}}')
BLANK = Reply(200, {}, b"\n\n \n")
CUT = Reply(200, {}, OUTPUT.body, cut_at=len(OUTPUT.body) - 40)
# What is wrong with a file, and what must stand in the reason.
BROKEN: dict[str, tuple[Reply | None, str]] = {
    "empty": (EMPTY, "an empty body instead of rows"),
    "404": (GONE, "it is gone (HTTP 404"),
    "410": (Reply.of({"error": {"message": "expired"}}, 410), "expired (HTTP 410"),
    "403": (Reply.of({"error": {"message": "not yours"}}, 403), "not yours (HTTP 403"),
    "5xx": (BUSY, "try later (HTTP 503"),
    "dropped": (None, "connection broke"),
    "page": (PAGE, "a web page instead of rows"),
    "an error in a 200": (GARBAGE, 'no line of it is a result row; it begins with: {"error": {"message": "the file'),
    "blank lines": (BLANK, "nothing but blank lines"),
}


def caught(call: Any) -> tuple[Any, list[str]]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        return call(), [str(warning.message) for warning in seen]


def openai(client: llmbackend.Client, by_id: bool) -> llmbackend.Batch:
    return client.get_batch("batch_1") if by_id else made(client, INPUTS)


@pytest.mark.parametrize("by_id", [False, True])
@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_error_file_does_not_hide_the_answers(box: Any, how: str, by_id: bool) -> None:
    reply, words = BROKEN[how]
    with scripted(box, "openai", openai_job(), FULL | {"file-err/content": reply}) as (script, client):
        batch = openai(client, by_id)
        items, warned = caught(lambda: list(batch.items()))
        assert [(item.status, item.value) for item in items] == [
            ("succeeded", "A"),
            ("missing", None),
            ("succeeded", "C"),
        ]
        assert "the error file 'file-err' could not be read" in str(items[1].error)
        assert words in str(items[1].error)
        [warning] = warned
        assert "the error file 'file-err' could not be read" in warning
        assert words in warning
        # The file that was read is not fetched again, and the one that was not may come.
        script.files["file-err/content"] = ERRORS
        mixed, warned = caught(lambda: batch.results(return_exceptions=True))
        assert (mixed[0], type(mixed[1]), mixed[2], warned) == ("A", llmbackend.InvalidRequestError, "C", [])
        assert script.asked.count("file-out/content") == 1
        # From then on nothing more is asked for.
        before = len(script.asked)
        assert [item.status for item in batch.items()] == ["succeeded", "failed", "succeeded"]
        assert len(script.asked) == before


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_output_file_does_not_hide_the_errors(box: Any, how: str) -> None:
    reply, words = BROKEN[how]
    with scripted(box, "openai", openai_job(), FULL | {"file-out/content": reply}) as (script, client):
        batch = made(client, INPUTS)
        with pytest.warns(UserWarning, match="the output file 'file-out' could not be read"):
            items = list(batch.items())
        assert [item.status for item in items] == ["missing", "failed", "missing"]
        assert words in str(items[0].error)
        # Paid answers are not lost for good.
        script.files["file-out/content"] = OUTPUT
        assert [item.value for item in batch.items()] == ["A", None, "C"]


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("404", llmbackend.NotFoundError),
        ("403", llmbackend.PermissionDeniedError),
        ("5xx", llmbackend.ServerError),
        ("dropped", llmbackend.APIConnectionError),
        ("page", llmbackend.APIError),
        ("an error in a 200", llmbackend.APIError),
    ],
)
def test_when_nothing_can_be_read_it_is_an_error_that_names_the_file(box: Any, how: str, kind: Any) -> None:
    reply, words = BROKEN[how]
    files = FULL | {"file-out/content": reply, "file-err/content": EMPTY}
    with scripted(box, "openai", openai_job(), files) as (script, client):
        batch = made(client, INPUTS)
        for call in (batch.results, batch.items, lambda: batch.results(return_exceptions=True)):
            with pytest.raises(kind) as error:
                call()
            assert type(error.value) is kind
            assert "the output file 'file-out' could not be read" in str(error.value)
            assert words.partition(" (HTTP")[0] in str(error.value)
        script.files.update(FULL)
        assert [item.value for item in batch.items()] == ["A", None, "C"]


@pytest.mark.parametrize("wrong", ["file-out/content", "file-err/content"])
def test_a_wrong_key_is_raised_whatever_else_was_read(box: Any, wrong: str) -> None:
    refused = Reply.of({"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}, 401)
    with scripted(box, "openai", openai_job(), FULL | {wrong: refused}) as (_, client):
        batch = made(client, INPUTS)
        for call in (batch.results, batch.items):
            with pytest.raises(llmbackend.AuthenticationError, match="Incorrect API key"):
                call()


def test_a_file_that_stays_empty_has_no_rows(box: Any) -> None:
    """Twice the same: that is what the server has. One input each is missing, and every file is named."""
    files = FULL | {"file-out/content": EMPTY, "file-err/content": EMPTY}
    with scripted(box, "openai", openai_job(), files) as (_, client):
        items, warned = caught(lambda: list(made(client, INPUTS).items()))
        assert [item.status for item in items] == ["missing"] * 3
        assert [name for name in ("'file-out'", "'file-err'") if name in str(items[0].error)] == [
            "'file-out'",
            "'file-err'",
        ]
        assert len(warned) == 2
    with scripted(box, "anthropic", anthropic_job(succeeded=2), {"/results": EMPTY}) as (script, client):
        batch = client.get_batch(IDS["anthropic"])
        items, warned = caught(lambda: list(batch.items()))
        assert [item.status for item in items] == ["missing"] * 2
        assert "the results of 'msgbatch_1' could not be read" in str(items[0].error)
        assert ["the results of 'msgbatch_1'" in warning for warning in warned] == [True]
        script.files["/results"] = lines(anthropic_row("llmb-000001", "B"), anthropic_row("llmb-000000", "A"))
        assert batch.results() == ["A", "B"]


def test_a_file_of_blank_lines_is_named_where_an_input_has_no_row(box: Any) -> None:
    rows = lines(*[openai_row(f"llmb-00000{n}", text) for n, text in enumerate("ABC")])
    with scripted(box, "openai", openai_job(), {"file-out/content": rows, "file-err/content": BLANK}) as (_, client):
        assert caught(made(client, INPUTS).results) == (["A", "B", "C"], [])
    with scripted(box, "openai", openai_job(), {"file-out/content": BLANK, "file-err/content": BLANK}) as (_, client):
        items, warned = caught(lambda: list(made(client, INPUTS).items()))
        assert [item.status for item in items] == ["missing"] * 3
        assert "the output file 'file-out' could not be read (openai: it has nothing but blank lines" in str(
            items[0].error
        )
        assert len(warned) == 2


def test_an_input_file_without_rows_does_not_hide_the_answers(box: Any) -> None:
    """By id: what came back tells more than a file that cannot be what was sent."""
    for sent in (BLANK, GARBAGE, Reply(200, {}, b"{}\n[]\n")):
        files = {"file-out/content": OUTPUT, "file-in/content": sent}
        with scripted(box, "openai", openai_job(error_file_id=None), files) as (_, client):
            assert [item.value for item in client.get_batch("batch_1").items()] == ["A", None, "C"]


def test_a_file_that_breaks_off_is_read_as_far_as_it_goes(box: Any) -> None:
    files = {"file-out/content": CUT}
    with scripted(box, "openai", openai_job(error_file_id=None), files) as (script, client):
        batch = made(client, INPUTS)
        items, warned = caught(lambda: list(batch.items()))
        assert [(item.status, item.value) for item in items] == [
            ("missing", None),
            ("missing", None),
            ("succeeded", "C"),
        ]
        for words in ("the output file 'file-out' could not be read", "connection broke"):
            assert words in str(items[0].error)
            assert words in warned[0]
        assert len(warned) == 1
        script.files["file-out/content"] = OUTPUT
        assert [item.value for item in batch.items()] == ["A", None, "C"]


@pytest.mark.parametrize("state", ["expired", "cancelled"])
def test_a_stopped_job_with_a_broken_file_keeps_its_answers(box: Any, state: str) -> None:
    with scripted(box, "openai", openai_job(state), FULL | {"file-err/content": GONE}) as (_, client):
        items, warned = caught(lambda: list(made(client, INPUTS).items()))
        assert [item.status for item in items] == ["succeeded", "missing", "succeeded"]
        assert ["the error file 'file-err' could not be read" in warning for warning in warned] == [True]


def test_a_failed_job_gives_the_rows_of_its_files(box: Any) -> None:
    failed = openai_job("failed", errors={"data": [{"message": "the model is gone"}]})
    with scripted(box, "openai", failed, dict(FULL)) as (script, client):
        batch = made(client, INPUTS)
        assert [item.value for item in batch.items()] == ["A", None, "C"]
        with pytest.raises(
            llmbackend.BatchFailedError, match=r"the model is gone\. 3 of its rows had finished: items\(\)"
        ):
            batch.results()
        script.files = {"content": GONE}
        for call in (client.get_batch("batch_1").items, client.get_batch("batch_1").results):
            with pytest.raises(
                llmbackend.BatchFailedError, match="the model is gone.*nothing could be read.*it is gone"
            ):
                call()


def test_a_row_of_a_stopped_job_of_gemini_is_not_called_unprocessed_where_its_file_broke_off(box: Any) -> None:
    rows = [{**gemini_row(None, text), "key": f"llmb-00000{n}"} for n, text in enumerate("AB")]
    file = lines(*rows)
    job = operation("CANCELLED", done=True, response={"responsesFile": "files/out"}, batchStats={"requestCount": "3"})
    cut = Reply(200, {}, file.body, cut_at=len(file.body) - 30)
    with scripted(box, "gemini", job, {"files/out:download": cut}) as (script, client):
        batch = client.get_batch("b1")
        with pytest.warns(UserWarning, match="the result file 'files/out' could not be read"):
            assert [item.status for item in batch.items()] == ["succeeded", "missing", "missing"]
        script.files["files/out:download"] = file
        assert [item.status for item in batch.items()] == ["succeeded", "succeeded", "cancelled"]


@pytest.mark.parametrize("how", ["404", "empty", "5xx", "page"])
def test_default_ids_need_no_input_file_that_can_be_read(box: Any, how: str) -> None:
    """By id, with a row missing: only the input file says how many there were, and the provider's count says it too."""
    reply, _ = BROKEN[how]
    files = FULL | {"file-in/content": reply}
    with scripted(box, "openai", openai_job(error_file_id=None), files) as (_, client):
        assert [item.status for item in client.get_batch("batch_1").items()] == ["succeeded", "missing", "succeeded"]


def test_custom_ids_wait_for_an_input_file_that_may_come(box: Any) -> None:
    rows = lines(openai_row("y", "Y"), openai_row("x", "X"))
    sent = lines({"custom_id": "y"}, {"custom_id": "x"})
    job = openai_job(total=2, completed=2, failed=0, error_file_id=None)
    with scripted(box, "openai", job, {"file-out/content": rows, "file-in/content": BUSY}) as (script, client):
        batch = client.get_batch("batch_1")
        with pytest.raises(llmbackend.ServerError, match="try later"):
            batch.results()
        # It is there, and there is nothing in it: the order is guessed, but not for good.
        script.files["file-in/content"] = EMPTY
        with pytest.warns(UserWarning, match="natural order"):
            assert batch.results() == ["X", "Y"]
        script.files["file-in/content"] = sent
        assert batch.results() == ["Y", "X"]
        assert script.asked.count("file-out/content") == 1


def test_inputs_without_a_row_are_listed_also_where_nobody_knows_their_ids(box: Any) -> None:
    files = {"/results": lines(anthropic_row("row-10", "ten"), anthropic_row("row-9", "nine"))}
    with scripted(box, "anthropic", anthropic_job(succeeded=4), files) as (_, client):
        with pytest.warns(UserWarning, match="natural order"):
            items = list(client.get_batch(IDS["anthropic"]).items())
        assert [(item.custom_id, item.status) for item in items] == [
            ("row-9", "succeeded"), ("row-10", "succeeded"), ("", "missing"), ("", "missing"),
        ]  # fmt: skip


def test_no_reason_holds_a_key(box: Any) -> None:
    quoting = Reply(200, {}, json.dumps({"detail": "x" * 190 + "k-secret-secret is not allowed"}).encode())
    with scripted(box, "openai", openai_job(), FULL | {"file-err/content": quoting}) as (_, client):
        batch = made(client, INPUTS)
        items, warned = caught(lambda: list(batch.items()))
        for text in (str(items[1].error), *warned):
            assert "k-sec" not in text
            assert "no line of it is a result row" in text


# --- A job that is done before its files are ---

UNREADY = openai_job(completed=2, failed=1, output_file_id=None)


NO_FILES = [
    UNREADY,
    openai_job(output_file_id="", error_file_id=""),
    openai_job(completed=0, failed=3, output_file_id=None, error_file_id=None),
]


@pytest.mark.parametrize("unready", NO_FILES)
def test_a_completed_job_without_its_files_is_polled_on(box: Any, unready: Any) -> None:
    with scripted(box, "openai", unready, dict(FULL)) as (script, client):
        batch = client.get_batch("batch_1")
        assert (batch.status(), batch.normalized_status()) == ("completed", "in_progress")
        # By time, not by the number of polls.
        with pytest.raises(llmbackend.BatchTimeoutError, match=r"still in_progress \('completed'\)"):
            batch.wait(poll_interval=0, timeout=0.5)

        def come(state: str) -> None:
            states.append(state)
            if len(states) == 3:
                script.job = openai_job()

        states: list[str] = []
        # However large the interval is.
        batch.wait(poll_interval=3600, timeout=30, callback=come)
        assert states == ["in_progress"] * 3 + ["completed"]
        assert [item.value for item in batch.items()] == ["A", None, "C"]


def test_results_poll_on_by_themselves(box: Any) -> None:
    with scripted(box, "openai", [UNREADY, UNREADY, openai_job()], dict(FULL)) as (_, client):
        mixed = client.fetch_batch_results("batch_1", return_exceptions=True)
        assert (mixed[0], type(mixed[1]), mixed[2]) == ("A", llmbackend.InvalidRequestError, "C")


def test_an_inline_job_of_gemini_with_an_empty_list_is_polled_on(box: Any) -> None:
    stats = {"requestCount": "1", "successfulRequestCount": "1"}
    with scripted(box, "gemini", operation(done=True, response=inlined(), batchStats=stats), {}) as (script, client):
        batch = client.get_batch("b1")
        assert batch.normalized_status() == "in_progress"
        script.job = operation(done=True, response=inlined(gemini_row("llmb-000000", "A")), batchStats=stats)
        assert batch.results() == ["A"]


def test_an_expired_job_that_does_not_show_its_files_is_asked_again(box: Any) -> None:
    late = openai_job("expired", output_file_id=None)
    with scripted(box, "openai", late, dict(FULL)) as (script, client):
        batch = made(client, INPUTS)
        with pytest.warns(UserWarning, match="names no file for rows that it counts as done"):
            items = list(batch.items())
        assert [item.status for item in items] == ["missing", "failed", "missing"]
        assert "the job names no file for rows that it counts as done" in str(items[0].error)
        script.job = openai_job("expired")
        assert [item.value for item in batch.items()] == ["A", None, "C"]
