"""What a server counts sizes nothing: neither a list, nor a bar, nor a wait."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from gemini_wire import inlined, operation
from job_script import IDS, anthropic_job, anthropic_row, gemini_row, lines, made, openai_job, openai_row, scripted
from support import Reply
from test_result_files import caught

import llmbackend
from llmbackend._progress import ProgressBar

QUINTILLION = 10**18
FALSE = [QUINTILLION, 1e18, str(QUINTILLION), 2**64 - 1, 2**64, 10**30, 10_000_001]
NOTHING = [-3, -1.5, "-3", "many", "", None, [], {}, True]
PROVIDERS = ["openai", "anthropic", "gemini"]


def job(provider: str, count: Any, ids: list[str], **fields: Any) -> tuple[Any, dict[str, Reply | None]]:
    """A completed job of which the server counts so many rows, and returns these."""
    if provider == "gemini":
        rows = [gemini_row(id, id) for id in ids]
        return operation(done=True, response=inlined(*rows), batchStats={"requestCount": count}, **fields), {}
    if provider == "anthropic":
        return anthropic_job(succeeded=count) | fields, {"/results": lines(*[anthropic_row(id, id) for id in ids])}
    files: dict[str, Reply | None] = {"file-out/content": lines(*[openai_row(id, id) for id in ids])}
    counted = openai_job(total=count, completed=0, failed=0, error_file_id=None)
    return counted | fields, files


TWO = ["llmb-000001", "llmb-000000"]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("count", FALSE, ids=repr)
def test_a_false_count_lists_only_what_the_rows_tell_and_is_named(box: Any, provider: str, count: Any) -> None:
    with scripted(box, provider, *job(provider, count, TWO)) as (_, client):
        started = time.monotonic()
        batch = client.get_batch(IDS[provider])
        results, warned = caught(batch.results)
        assert results == TWO[::-1]
        [warning] = warned
        named = min(int(float(count)) if isinstance(count, float) else int(count), 2**64 - 1)
        assert f"the provider counts {named} rows, which cannot be true" in warning
        assert time.monotonic() - started < 10


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("count", FALSE, ids=repr)
def test_a_false_count_of_which_nothing_came_back_is_an_error_that_names_it(
    box: Any, provider: str, count: Any
) -> None:
    found, files = job(provider, count, [])
    if provider == "anthropic":
        files["/results"] = Reply(200, {}, b"")
    if provider == "openai":
        found["output_file_id"], found["request_counts"]["completed"] = None, 0
    with scripted(box, provider, found, files) as (_, client):
        if provider == "gemini":
            found["metadata"] |= {"state": "BATCH_STATE_EXPIRED"}
        named = min(int(float(count)) if isinstance(count, float) else int(count), 2**64 - 1)
        batch = client.get_batch(IDS[provider])
        for call in (batch.results, batch.items):
            with pytest.raises(llmbackend.BatchError, match=f"counts {named} rows in it, and none came back"):
                call()


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("count", NOTHING, ids=repr)
def test_a_count_that_is_none_says_nothing(box: Any, provider: str, count: Any) -> None:
    with scripted(box, provider, *job(provider, count, TWO)) as (_, client):
        assert caught(client.get_batch(IDS[provider]).results) == (TWO[::-1], [])


@pytest.mark.parametrize(("provider", "limit"), [("openai", 50_000), ("anthropic", 100_000)])
def test_a_count_of_as_many_rows_as_a_job_holds_is_believed(box: Any, provider: str, limit: int) -> None:
    with scripted(box, provider, *job(provider, limit, TWO)) as (_, client):
        items = list(client.get_batch(IDS[provider]).items())
        assert [item.status for item in items] == ["succeeded"] * 2 + ["missing"] * (limit - 2)
    with (
        scripted(box, provider, *job(provider, limit + 1, TWO)) as (_, client),
        pytest.warns(UserWarning, match=f"counts {limit + 1} rows"),
    ):
        assert len(list(client.get_batch(IDS[provider]).items())) == 2


FAR = ["llmb-999999999999", "llmb-18446744073709551615", "llmb-18446744073709551616", "llmb-009999999"]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("count", [2, 0, QUINTILLION])
@pytest.mark.parametrize("far", FAR)
def test_an_id_that_points_far_away_is_left_out(box: Any, provider: str, count: int, far: str) -> None:
    with scripted(box, provider, *job(provider, count, [*TWO, far])) as (_, client):
        results, warned = caught(client.get_batch(IDS[provider]).results)
        assert results == TWO[::-1]
        assert "1 rows of results have ids that it never sent" in warned[0]


@pytest.mark.parametrize("far", ["18446744073709551615:x", "18446744073709551616:x", "999999999999:x"])
@pytest.mark.parametrize("count", [1, 2, "18446744073709551615"])
def test_a_position_that_is_far_away_is_left_out(box: Any, far: str, count: Any) -> None:
    with scripted(box, "gemini", *job("gemini", count, ["000000:a", far])) as (_, client):
        items, _ = caught(lambda: list(client.get_batch("b1").items()))
        assert [(item.custom_id, item.value) for item in items][:1] == [("a", "000000:a")]
        assert len(items) <= 2


def test_an_only_row_at_the_largest_position_is_no_overflow(box: Any) -> None:
    with (
        scripted(box, "openai", *job("openai", 1, ["llmb-18446744073709551615"])) as (_, client),
        pytest.warns(UserWarning, match="1 rows of results have ids that it never sent"),
    ):
        assert [item.status for item in client.get_batch("batch_1").items()] == ["missing"]


def test_counts_of_anthropic_that_no_sum_can_hold(box: Any) -> None:
    most = 2**64 - 1
    rows = {"/results": lines(anthropic_row("llmb-000000", "A"))}
    with scripted(box, "anthropic", anthropic_job(succeeded=most, errored=most, canceled=most), rows) as (_, client):
        assert client.get_batch_status("msgbatch_1")["state"] == "completed"
        results, warned = caught(client.get_batch("msgbatch_1").results)
        assert (results, len(warned)) == (["A"], 1)


@pytest.mark.parametrize("count", [*FALSE, *NOTHING, float("nan")], ids=repr)
def test_who_made_the_job_knows_how_many_rows_it_has(box: Any, count: Any) -> None:
    """A bar and the hint of a stopped job go by what can be true."""
    found, files = job("openai", count, TWO, status="cancelled")
    found["request_counts"] = {"total": count, "completed": count, "failed": 0}
    with scripted(box, "openai", found, files) as (script, client):
        batch = made(client, ["a", "b"])
        with pytest.raises(llmbackend.BatchFailedError, match=r"By the provider's count [0-2] rows had finished"):
            batch.wait(0.01, progress=True)
        assert batch.results() == TWO[::-1]
        assert json.dumps(script.job)


def test_a_bar_never_shows_more_done_than_there_is(box: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found, files = job("openai", 3, TWO)
    found["request_counts"] = {"total": 2, "completed": 40_000, "failed": 0}
    with scripted(box, "openai", found, files) as (_, client):
        client.get_batch("batch_1").wait(0.01, progress=True)
        assert "2/2 completed" in capsys.readouterr().err
    with ProgressBar("x") as bar:
        bar.update("in_progress", 0, 0)
    assert "0/? in_progress" in capsys.readouterr().err
