"""No reply is read without bound, whatever its kind, its encoding and its length."""

from __future__ import annotations

import gzip
import itertools
import json
import tempfile
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest
from recorder import ANSWER, Recorder, Reply, Request, answer
from scripts import run
from support import POLL, Exchange, Proxy, is_content, is_create, posts
from support import Reply as ProxyReply
from wild_server import BOMBS, MIB, WildServer, deflate_bomb, endless, gzip_bomb, head, whole

import llmbackend

bombs = pytest.mark.parametrize("bomb", BOMBS)


def bomb_of(name: str, beginning: bytes = b"", status: int = 200) -> Iterator[bytes]:
    headers, body = BOMBS[name]
    return itertools.chain([head(status, **headers)], body(beginning))


def opened(url: str, provider: str = "openai", **options: Any) -> llmbackend.Client:
    return llmbackend.client(provider, "m", api_key="sandbox", base_url=url, **options)


def peak(code: str, url: str, **options: Any) -> dict[str, Any]:
    """What `code` tells, with the MiB by which the memory of its process grew."""
    measure = """
    import resource
    def memory():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    before = memory()
    """
    script = textwrap.dedent(measure) + textwrap.dedent(code)
    told: dict[str, Any] = run(script, {"api_key": "sandbox", "base_url": url, **options})
    return told


# Answers


@bombs
def test_an_answer_that_never_ends_takes_no_more_memory_than_its_limit(bomb: str) -> None:
    code = """
    try:
        client.get_response("hi")
    except llmbackend.APIError as error:
        facts = {"kind": type(error).__name__, "message": str(error), "status": error.status, "id": error.request_id}
        tell(**facts, grew=memory() - before)
    """
    with WildServer(lambda _: bomb_of(bomb, b'{"output": "')) as server:
        told = peak(code, server.url)
    assert (told["kind"], told["status"], told["id"]) == ("APIError", 200, "req_1")
    assert "larger than 268435456 bytes" in told["message"]
    assert "max_response_bytes" in told["message"]
    assert told["grew"] < 256 * 1.5
    assert len(server.requests) == 1


@bombs
@pytest.mark.parametrize("limit", [1000, 3 * MIB])
def test_the_limit_of_an_answer_is_an_option(bomb: str, limit: int) -> None:
    with WildServer(lambda _: bomb_of(bomb, b'{"output": "')) as server:
        client = opened(server.url, max_response_bytes=limit)
        with pytest.raises(
            llmbackend.APIError, match=f"larger than {limit} bytes, the client's max_response_bytes"
        ) as caught:
            client.generate("hi")
    assert type(caught.value) is llmbackend.APIError
    assert (caught.value.status, caught.value.request_id) == (200, "req_1")
    assert (caught.value.body or "").startswith('{"output": "')
    assert len(caught.value.body or "") <= 4000
    assert len(server.requests) == 1


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_the_limit_counts_decoded_bytes_and_not_one_more(encoding: str) -> None:
    body = json.dumps(answer("x" * 5000)).encode()
    sent = gzip.compress(body) if encoding == "gzip" else body
    with Recorder(Reply(sent, headers={"content-encoding": encoding})) as recorder:
        assert opened(recorder.url, max_response_bytes=len(body)).get_response("hi") == "x" * 5000
        with pytest.raises(llmbackend.APIError, match=f"larger than {len(body) - 1} bytes"):
            opened(recorder.url, max_response_bytes=len(body) - 1).get_response("hi")


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
def test_every_provider_has_the_limit_in_single_and_immediate_calls(provider: str) -> None:
    with WildServer(lambda _: bomb_of("gzip", b"{")) as server:
        client = opened(server.url, provider, max_response_bytes=5000)
        with pytest.raises(llmbackend.APIError, match="5000 bytes, the client's max_response_bytes"):
            client.get_response("hi")
        batch = client.submit_batch(["a", "b"], batch_options={"native": False})
        for item in batch.items():
            assert item.status == "failed"
            assert type(item.error) is llmbackend.APIError
            assert "max_response_bytes" in str(item.error)
        assert len(server.requests) == 3


def test_a_key_in_the_part_that_was_read_is_not_shown() -> None:
    key = "sk-very-secret-key-0123456789"
    with WildServer(lambda _: itertools.chain([head()], endless(f'{{"your key": "{key}", '.encode()))) as server:
        client = llmbackend.client("openai", "m", api_key=key, base_url=server.url, max_response_bytes=5000)
        with pytest.raises(llmbackend.APIError) as caught:
            client.get_response("hi")
    assert (caught.value.body or "").startswith('{"your key": "***"')
    assert key not in str(caught.value)


@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "zstd"])
def test_an_encoding_that_was_not_asked_for_is_named_and_not_unpacked(encoding: str) -> None:
    twice = gzip.compress(gzip.compress(b" " * (64 * MIB)))
    with WildServer(lambda _: whole(twice, content_encoding=encoding)) as server:
        with pytest.raises(llmbackend.APIError, match=f"no JSON .* but a body in the encoding '{encoding}'"):
            opened(server.url).get_response("hi")
        assert server.requests[0].headers["accept-encoding"] == "gzip,deflate"


@pytest.mark.parametrize("wrong", [0, -1, 999, 1.5, 1e9, "1000000", True, [1], float("nan")])
def test_a_limit_that_is_no_number_of_bytes_is_refused(wrong: Any) -> None:
    with pytest.raises(llmbackend.ConfigurationError, match="max_response_bytes"):
        llmbackend.client("openai", "m", api_key="sandbox", max_response_bytes=wrong)


@pytest.mark.parametrize(("unit", "count"), [("[],", 8 * MIB), ('{"a":{}},', 2 * MIB), ("0,", 16 * MIB)])
def test_a_small_reply_of_too_many_values_is_refused_before_it_fills_the_memory(unit: str, count: int) -> None:
    code = """
    try:
        client.get_response("hi")
    except llmbackend.APIError as error:
        tell(message=str(error), grew=memory() - before)
    """
    body = gzip.compress(b"[" + unit.encode() * count + b"0]", 1)
    with WildServer(lambda _: whole(body, content_encoding="gzip")) as server:
        told = peak(code, server.url)
    assert "more than 1073741824 bytes (1 GiB) of memory" in told["message"]
    assert told["grew"] < 256


# Error replies


@bombs
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "invalid_api_key", llmbackend.AuthenticationError),
        (404, "model_not_found", llmbackend.NotFoundError),
        (429, "insufficient_quota", llmbackend.QuotaExceededError),
        (500, "server_error", llmbackend.ServerError),
    ],
)
def test_an_error_reply_without_end_is_that_error(bomb: str, status: int, code: str, kind: type[Exception]) -> None:
    beginning = json.dumps({"error": {"code": code, "type": code, "message": "This is why. "}})[:-3].encode()
    with WildServer(lambda _: bomb_of(bomb, beginning, status)) as server, pytest.raises(llmbackend.APIError) as caught:
        opened(server.url, max_retries=0).get_response("hi")
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.request_id) == (status, code, "req_1")
    assert (error.message or "").startswith("This is why. ")
    assert (error.body or "").startswith(beginning.decode())
    assert len(error.body or "") == 4000
    assert len(server.requests) == 1


@bombs
def test_an_error_reply_takes_little_memory(bomb: str) -> None:
    code = """
    try:
        client.get_response("hi")
    except llmbackend.AuthenticationError as error:
        tell(status=error.status, grew=memory() - before)
    """
    with WildServer(lambda _: bomb_of(bomb, b"<html>", 401)) as server:
        told = peak(code, server.url)
    assert told["status"] == 401
    assert told["grew"] < 40


# States, lists and the replies to uploads, creates and cancels


@bombs
def test_a_state_without_end_names_its_limit(bomb: str) -> None:
    code = """
    batch = client.get_batch("batch_1")
    told = []
    for call in (batch.status, batch.cancel, batch.results):
        try:
            call()
        except llmbackend.APIError as error:
            told.append([type(error).__name__, str(error), error.request_id])
    tell(told=told, grew=memory() - before)
    """
    with WildServer(lambda _: bomb_of(bomb, b'{"id": "batch_1", "x": "')) as server:
        told = peak(code, server.url)
    for kind, message, request_id in told["told"]:
        assert (kind, request_id) == ("APIError", "req_1")
        assert "larger than 67108864 bytes (64 MiB), the limit of a job's state and of a list" in message
    assert len(told["told"]) == 3
    assert told["grew"] < 64 * 1.7


@bombs
def test_a_reply_to_an_upload_without_end_names_its_limit(bomb: str) -> None:
    with WildServer(lambda _: bomb_of(bomb, b'{"id": "file-1", "x": "')) as server:
        with pytest.raises(
            llmbackend.APIError, match=r"larger than 1048576 bytes \(1 MiB\), the limit of a reply to an upload"
        ):
            opened(server.url).submit_batch(["a"])
        assert [request.path for request in server.requests] == ["/v1/files"]


def large(reply: ProxyReply, size: int = 70 * MIB) -> ProxyReply:
    """The same reply with blanks at its end."""
    reply.body = gzip.compress(reply.body + b" " * size, 1)
    reply.headers["content-encoding"] = "gzip"
    return reply


def test_a_job_whose_creation_is_answered_without_end_is_found_and_not_made_twice(box: Any) -> None:
    with Proxy(box, lambda exchange: large(exchange.forward()) if is_create(exchange) else exchange.forward()) as proxy:
        batch = llmbackend.client("openai", "m", **proxy.options).submit_batch(["a", "b"])
        assert posts(box) == [200]
        assert batch.wait(POLL).results() == ["a", "b"]


def test_a_list_without_end_is_not_read_to_its_end(box: Any) -> None:
    lists: list[str] = []

    def hook(exchange: Exchange) -> ProxyReply:
        reply = exchange.forward()
        if is_create(exchange):
            return ProxyReply.of({}, 200)
        if exchange.method == "GET" and "/batches?" in exchange.path:
            lists.append(exchange.path)
            return large(reply) if len(lists) == 1 else reply
        return reply

    with Proxy(box, hook) as proxy:
        # The first list is too large to be read: that is no reason to think that there is no job.
        batch = llmbackend.client("openai", "m", **proxy.options).submit_batch(["a"])
        assert len(lists) == 2
        assert posts(box) == [200]
        assert batch.wait(POLL).results() == ["a"]


def gemini_state(rows: int, size: int, **places: bool) -> Iterator[bytes]:
    """The state of a job whose rows, in one or two places, are written out as pretty-printed JSON."""
    yield head()
    yield b'{"name": "batches/a", "done": true, "metadata": {"state": "BATCH_STATE_SUCCEEDED", '
    yield b'"batchStats": {"requestCount": "%d"}' % rows
    if places.get("metadata"):
        yield b', "output": {"inlinedResponses": {"inlinedResponses": ['
        yield from gemini_rows(rows, size)
        yield b"]}}"
    yield b"}"
    if places.get("response"):
        yield b', "response": {"inlinedResponses": {"inlinedResponses": ['
        yield from gemini_rows(rows, size)
        yield b"]}}"
    yield b"}"


def gemini_rows(rows: int, size: int) -> Iterator[bytes]:
    filler = b"x" * size
    for n in reversed(range(rows)):
        content = b'{"role": "model", "parts": [{"text": "%d, \\"]}%s"}]}' % (n, filler)
        yield b'{"metadata": {"key": "llmb-%06d"},\n  "response": {"candidates": [\n{"content": ' % n
        yield content
        yield b', "finishReason": "STOP"}]}}' + (b",\n" if n else b"\n")


@pytest.mark.parametrize("places", [("response",), ("metadata",), ("metadata", "response")])
def test_rows_inside_a_state_go_to_the_disk_as_they_come(places: tuple[str, ...]) -> None:
    code = """
    batch = llmbackend.get_batch("batches/a", "gemini", "m", **options)
    texts = [(item.index, item.text[:6], len(item.text)) for item in batch.items()]
    tell(texts=texts, state=batch.normalized_status(), grew=memory() - before)
    """
    with WildServer(lambda _: gemini_state(150, MIB, **dict.fromkeys(places, True))) as server:
        told = peak(code, server.root)
    assert told["state"] == "completed"
    assert told["texts"] == [[n, f'{n}, "]}}x'[:6], len(f'{n}, "]}}') + MIB] for n in range(150)]
    assert told["grew"] < 64


def test_only_the_rest_of_a_state_counts() -> None:
    def state(_: Request) -> Iterator[bytes]:
        yield from itertools.islice(gemini_state(3, 10, response=True), 2)
        yield b', "x": "'
        yield from endless()

    with WildServer(state) as server:
        batch = llmbackend.get_batch("batches/a", "gemini", "m", api_key="sandbox", base_url=server.root)
        with pytest.raises(llmbackend.APIError, match=r"64 MiB"):
            batch.status()


def test_rows_inside_a_list_are_read_over() -> None:
    """A create whose answer is lost, and a list in which an older job shows a hundred megabytes of results."""
    name: list[str] = []

    def script(request: Request) -> Iterator[bytes]:
        if request.method == "POST":
            name.append(request.json["batch"]["displayName"])
            return iter([])
        old = b"".join(itertools.islice(gemini_state(100, MIB, response=True), 1, None))
        new = {"name": "batches/b", "metadata": {"state": "BATCH_STATE_PENDING", "displayName": name[0]}}
        return whole(b'{"operations": [' + old + b", " + json.dumps(new).encode() + b"]}")

    with WildServer(script) as server:
        batch = opened(server.root, "gemini").submit_batch(["a"])
        assert batch.id == "batches/b"
        assert [request.method for request in server.requests] == ["POST", "GET"]


# Result files


def openai_job(**files: str) -> dict[str, Any]:
    counts = {"total": 3, "completed": 3, "failed": 0}
    return {"id": "batch_1", "object": "batch", "status": "completed", "request_counts": counts, **files}


def test_a_line_that_is_too_long_fails_its_own_row_only() -> None:
    code = """
    items = [(item.custom_id, item.status, item.text, repr(item.error)) for item in client.get_batch("batch_1").items()]
    tell(items=items, grew=memory() - before)
    """

    def row(n: int, text: str) -> bytes:
        response = {"status_code": 200, "body": answer(text)}
        return json.dumps({"custom_id": f"llmb-{n:06d}", "response": response}).encode()

    def script(request: Request) -> Iterator[bytes]:
        if not request.path.endswith("/content"):
            yield from whole(json.dumps(openai_job(output_file_id="file-1")).encode())
            return
        begin, _, end = row(1, "SPLIT").partition(b"SPLIT")
        yield head()
        yield row(0, "zero") + b"\n" + begin
        for _ in range(257):
            yield b"x" * MIB
        yield end + b"\n" + row(2, "two") + b"\n"

    with WildServer(script) as server:
        told = peak(code, server.url)
    zero, one, two = told["items"]
    assert zero[:3] == ["llmb-000000", "succeeded", "zero"]
    assert two[:3] == ["llmb-000002", "succeeded", "two"]
    assert one[:3] == ["llmb-000001", "failed", None]
    assert one[3].startswith("APIError")
    assert "longer than 268435456 bytes (256 MiB), the limit of a line of a result file" in one[3]
    assert told["grew"] < 256 * 2.2


@pytest.mark.parametrize("need", [10**13, 10**15, 2**62])
def test_a_download_that_does_not_fit_on_the_disk_names_folder_and_need(need: int) -> None:
    def script(request: Request) -> Iterator[bytes]:
        if not request.path.endswith("/content"):
            return whole(json.dumps(openai_job(output_file_id="file-1")).encode())
        return itertools.chain([head(content_length=str(need))], endless())

    with WildServer(script) as server:
        with pytest.raises(llmbackend.LLMBackendError, match=f"needs {need} bytes in the temporary folder") as caught:
            opened(server.url).get_batch("batch_1").results()
        assert tempfile.gettempdir() in str(caught.value)
        assert "bytes of free space" in str(caught.value)
        assert "TMPDIR" in str(caught.value)
        # Not once more: the disk will be no emptier.
        assert [request.path for request in server.requests].count("/v1/files/file-1/content") == 1


def test_a_download_that_is_compressed_all_the_same_is_unpacked_on_the_disk() -> None:
    code = """
    items = [item.text for item in client.get_batch("batch_1").items()]
    tell(items=items, grew=memory() - before)
    """
    row = json.dumps({"custom_id": "llmb-000000", "response": {"status_code": 200, "body": ANSWER}}).encode()

    def script(request: Request) -> Iterator[bytes]:
        if not request.path.endswith("/content"):
            return whole(json.dumps(openai_job(output_file_id="file-1")).encode())
        body = gzip.compress(row + b"\n" + (b" " * 1023 + b"\n") * (400 * 1024))
        return whole(body, content_encoding="gzip")

    with WildServer(script) as server:
        told = peak(code, server.url)
        assert server.requests[-1].headers["accept-encoding"] == "identity"
    assert told["items"][0] == "ok"
    assert told["grew"] < 40


@pytest.mark.parametrize("fault", ["results", "error"])
def test_an_error_reply_to_a_download_is_not_read_to_its_end(box: Any, client: Any, fault: str) -> None:
    batch = client.submit_batch(["a"]).wait(POLL)
    status = {"results": 403, "error": 404}[fault]

    def hook(exchange: Exchange) -> ProxyReply:
        if not is_content(exchange):
            return exchange.forward()
        body = b'{"error": {"message": "No. ", "code": "c", "more": "' + b"x" * (5 * MIB)
        return ProxyReply(status, {"content-type": "application/json"}, body)

    with Proxy(box, hook) as proxy, pytest.raises(llmbackend.APIError, match=r"No\. ") as caught:
        llmbackend.get_batch(batch.id, "openai", "m", **proxy.options).results()
    assert (caught.value.status, caught.value.code) == (status, "c")


# Heads, chunks and trailers


def endless_head() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 X\r\n"
    for n in itertools.count():
        yield b"x-%d: %s\r\n" % (n, b"y" * 4000)


def endless_header() -> Iterator[bytes]:
    return endless(b"HTTP/1.1 200 X\r\nx-a: ", b"y")


def endless_extension() -> Iterator[bytes]:
    return endless(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n1;a=", b"y")


def endless_trailers() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n"
    for n in itertools.count():
        yield b"x-%d: %s\r\n" % (n, b"y" * 4000)


@pytest.mark.parametrize("script", [endless_head, endless_header, endless_extension, endless_trailers])
def test_what_stands_around_a_body_ends_too(script: Any) -> None:
    code = """
    try:
        client.get_response("hi")
    except llmbackend.APIConnectionError as error:
        tell(kind=type(error).__name__, grew=memory() - before)
    """
    with WildServer(lambda _: script()) as server:
        told = peak(code, server.url, max_retries=0, timeout=10)
    assert told["kind"] == "APIConnectionError"
    assert told["grew"] < 40


def test_interim_replies_without_end_are_silence() -> None:
    flood = itertools.repeat(b"HTTP/1.1 103 Early\r\nlink: </a>\r\n\r\n" * 100)
    with WildServer(lambda _: flood) as server:
        with pytest.raises(llmbackend.APITimeoutError, match=r"within 0\.5 s.*`timeout`"):
            opened(server.url, max_retries=0, timeout=0.5).get_response("hi")
        with pytest.raises(llmbackend.APITimeoutError, match=r"deadline of 0\.5 s"):
            opened(server.url, deadline=0.5).get_response("hi")


def test_bombs_are_what_they_are_said_to_be() -> None:
    for bomb in (gzip_bomb(b"{", 10), deflate_bomb(b"{", 10)):
        assert sum(map(len, bomb)) < 12 * MIB
