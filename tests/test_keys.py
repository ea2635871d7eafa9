"""A key is in no message, attribute, representation or pickle, whatever a server says."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import pickle
import traceback
import urllib.parse
from collections.abc import Callable
from typing import Any

import pydantic
import pytest
from support import OWN_ENV, POLL, Exchange, Proxy, Reply, is_content, run_python
from table import ALL, Provider

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


# Everything below: each way to call, each way to give a key, each provider.

PACKAGE = os.path.dirname(llmbackend.__file__)
HEADERS = {
    "openai": ("Authorization", f"Bearer {KEY}"),
    "anthropic": ("x-api-key", KEY),
    "gemini": ("x-goog-api-key", KEY),
}
VARIABLES = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY", "gemini": "GEMINI_API_KEY"}
WAYS = ["option", "environment", "headers"]
IDS = {"openai": "batch_a", "anthropic": "msgbatch_a", "gemini": "batches/a"}
NATIVE, IMMEDIATE = {"native": True}, {"native": False}

Call = Callable[[Provider, dict[str, Any]], object]
CALLS: dict[str, Call] = {
    "get_response": lambda p, o: llmbackend.get_response(p.name, p.model, "a", **o),
    "create_batch": lambda p, o: llmbackend.create_batch(["a"], p.name, p.model, batch_options=NATIVE, **o),
    "create_batch, immediate": lambda p, o: llmbackend.create_batch(
        ["a"], p.name, p.model, batch_options=IMMEDIATE, **o
    ).results(),
    "get_batch": lambda p, o: llmbackend.get_batch(IDS[p.name], p.name, p.model, **o).wait(POLL, timeout=0),
    "get_batch, cancel": lambda p, o: llmbackend.get_batch(IDS[p.name], p.name, p.model, **o).cancel(),
    "get_batch_status": lambda p, o: llmbackend.get_batch_status(IDS[p.name], p.name, p.model, **o),
    "fetch_batch_results": lambda p, o: llmbackend.fetch_batch_results(IDS[p.name], p.name, p.model, **o),
    "Client.get_response": lambda p, o: opened(p, o).get_response("a"),
    "Client.generate": lambda p, o: opened(p, o).generate("a"),
    "Client.submit_batch": lambda p, o: opened(p, o).submit_batch(["a"], batch_options=NATIVE),
    "Client.submit_batch, immediate": lambda p, o: opened(p, o).submit_batch(["a"], batch_options=IMMEDIATE).results(),
    "Client.get_batch": lambda p, o: opened(p, o).get_batch(IDS[p.name]).items(),
    "Client.get_batch_status": lambda p, o: opened(p, o).get_batch_status(IDS[p.name]),
    "Client.fetch_batch_results": lambda p, o: opened(p, o).fetch_batch_results(IDS[p.name]),
}

CREATES = ("create_batch", "Client.submit_batch")


def opened(provider: Provider, options: dict[str, Any]) -> llmbackend.Client:
    client = llmbackend.client(provider.name, provider.model, **options)
    assert KEY not in f"{client!r}{vars(client)}{client._core!r}"
    return client


def given(way: str, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options of a client whose key comes this way."""
    if way == "option":
        return {"api_key": KEY}
    if way == "headers":
        return {"api_key": "another-one", "headers": dict([HEADERS[provider.name]])}
    monkeypatch.setenv(VARIABLES[provider.name], KEY)
    return {}


def key_is_nowhere(error: BaseException | None) -> None:
    """Nor in what an error tracker collects: the local variables of our own frames."""
    if error is None:
        return
    stack = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    variables = [frame.locals for frame in stack if frame.filename.startswith(PACKAGE)]
    seen = f"{error} {error!r} {vars(error)} {error.args} {variables} {pickle.dumps(error)!r}"
    # Not even the beginning of one that was cut.
    assert KEY[:5] not in seen
    key_is_nowhere(error.__cause__)
    key_is_nowhere(error.__context__)
    if isinstance(error, llmbackend.BatchItemsError):
        assert error.errors
        for one in error.errors.values():
            key_is_nowhere(one)


@pytest.fixture(params=ALL, ids=lambda it: it.name)
def provider(request: pytest.FixtureRequest) -> Any:
    return request.param


def options_through(proxy: Proxy, provider: Provider, box: Any) -> dict[str, Any]:
    return {"base_url": provider.base_url(proxy, box), "max_retries": 0}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("way", WAYS)
def test_a_server_that_quotes_the_key(
    provider: Provider, box: Any, way: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = given(way, provider, monkeypatch)
    said = {"error": {"message": f"no such key: {KEY}", "type": KEY, "status": KEY, "code": KEY}, "request_id": KEY}
    replies = [Reply.of(said, 401)]
    if call not in CREATES:  # for what may have been created is searched for a minute
        replies.append(Reply(200, {"content-type": "text/html"}, b"x" * 195 + KEY.encode()))
    for reply in replies:
        reply.headers.update({"x-request-id": KEY, "request-id": KEY, "location": KEY})
        with Proxy(box, lambda _, reply=reply: reply) as proxy:
            with pytest.raises((llmbackend.APIError, llmbackend.BatchError)) as caught:
                CALLS[call](provider, options | options_through(proxy, provider, box))
            key_is_nowhere(caught.value)
            assert any(KEY in value for value in proxy.seen[0].headers.values())


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("way", WAYS)
def test_no_server(provider: Provider, box: Any, way: str, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = given(way, provider, monkeypatch)
    with Proxy(box) as proxy:
        options |= options_through(proxy, provider, box)
    with pytest.raises((llmbackend.APIConnectionError, llmbackend.BatchError)) as caught:
        CALLS[call](provider, options)
    key_is_nowhere(caught.value)


WRONG: dict[str, dict[str, Any]] = {
    "unknown": {"api_kye": KEY},
    "timeout": {"timeout": "soon"},
    "max_retries": {"max_retries": -1},
    "base_url": {"base_url": f"http://user:{KEY}@127.0.0.1"},
    "headers": {"headers": {"x-key": KEY, "x-number": 1}},
    "object": {"headers": {"x-key": KEY, "x-object": object()}},
    "broken key": {"api_key": f"{KEY} {KEY}"},
    "broken header": {"headers": {"x-key": f"{KEY}\n"}},
}


@pytest.mark.parametrize("call", [*CALLS, "client"])
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_options(provider: Provider, call: str, wrong: str) -> None:
    start = CALLS.get(call, opened)
    with pytest.raises(llmbackend.ConfigurationError) as caught:
        start(provider, {"api_key": KEY, "base_url": "http://127.0.0.1:9", **WRONG[wrong]})
    key_is_nowhere(caught.value)
    with pytest.raises(llmbackend.ConfigurationError) as caught:
        start(dataclasses.replace(provider, model=3), {"api_key": KEY})  # type: ignore[arg-type]
    key_is_nowhere(caught.value)


class Picky(pydantic.BaseModel):
    said: str

    @pydantic.field_validator("said")
    @classmethod
    def is_right(cls, value: str) -> str:
        raise ValueError(f"{value} is wrong")


class Careless(pydantic.BaseModel):
    said: str

    @pydantic.field_validator("said")
    @classmethod
    def is_right(cls, value: str) -> str:
        raise KeyError(value)


def parse(value: Any) -> Any:
    raise RuntimeError(f"cannot parse {value}")


SAID = {
    "type": "object",
    "properties": {"said": {"type": "string"}},
    "required": ["said"],
    "additionalProperties": False,
}
SHORT = {**SAID, "properties": {"said": {"type": "string", "maxLength": 10}}}
UNFIT: dict[str, Any] = {
    "pydantic": Picky,
    "a validator that raises": Careless,
    "parser": llmbackend.StructuredOutput(schema=SAID, parser=parse),
    "json schema": SHORT,
}


def quoting(exchange: Exchange) -> Reply:
    """The sandbox's answer, with the key in the place of the prompt."""
    reply = exchange.forward()
    reply.body = reply.body.replace(b"PROMPT", KEY.encode())
    return reply


@pytest.mark.parametrize("schema", UNFIT)
@pytest.mark.parametrize("way", WAYS)
def test_an_unfit_answer_that_quotes_the_key(
    provider: Provider, box: Any, way: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = given(way, provider, monkeypatch)
    shape = UNFIT[schema]
    with Proxy(box, quoting) as proxy:
        client = opened(provider, options | options_through(proxy, provider, box))
        for call in (client.get_response, client.generate):
            with pytest.raises(llmbackend.InvalidOutputError) as caught:
                call("PROMPT", schema=shape)
            key_is_nowhere(caught.value)
            assert json.loads(caught.value.text or "") == {"said": "***"}
            assert "***" in (caught.value.response or "")
        for batch_options in (NATIVE, IMMEDIATE):
            batch = client.submit_batch(["PROMPT"], schema=shape, batch_options=batch_options).wait(POLL)
            with pytest.raises(llmbackend.BatchItemsError) as items:
                batch.results()
            key_is_nowhere(items.value)
            (item,) = batch.items()
            assert item.status == "invalid"
            assert KEY not in f"{item!r} {item.text}"
        # What is no error is the caller's: nothing is changed in an answer.
        response = client.generate("PROMPT", schema=SAID)
        assert response.value == {"said": KEY}
        assert KEY in json.dumps(response.raw)


def test_the_parser_s_own_error_is_the_cause(provider: Provider, box: Any) -> None:
    client = provider.client(box)
    with pytest.raises(llmbackend.InvalidOutputError) as caught:
        client.get_response("PROMPT", schema=UNFIT["parser"])
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert json.loads(caught.value.text or "") == {"said": "PROMPT"}


def test_an_answer_that_is_no_json_and_is_cut_within_the_key(provider: Provider, box: Any) -> None:
    with Proxy(box, quoting) as proxy:
        client = opened(provider, {"api_key": KEY, **options_through(proxy, provider, box)})
        for length in range(170, 200, 3):
            box.clear_faults()
            # The answer to a call without a schema, read as if it had one.
            text = "x" * length + "PROMPT"
            batch = client.submit_batch([text], batch_options=NATIVE).wait(POLL)
            with pytest.raises(llmbackend.BatchItemsError) as caught:
                client.fetch_batch_results(batch.id, SAID)
            key_is_nowhere(caught.value)


# Everything below: a server that quotes the key in another form.

HARD = "sk-proj-Ab/cD+12=3_secret/45=="


def escaped(text: str) -> str:
    """As PHP and JavaScript write JSON for HTML."""
    return json.dumps(text)[1:-1].replace("/", "\\/").replace("=", "\\u003d").replace("+", "\\u002B")


def in_characters(form: str) -> Callable[[str], str]:
    return lambda text: "".join(form.format(ord(character)) for character in text)


def base64_of(before: str, alphabet: bytes | None = None, padding: bool = True) -> Callable[[str], str]:
    def encode(text: str) -> str:
        encoded = base64.b64encode((before + text).encode(), alphabet).decode()
        return encoded if padding else encoded.rstrip("=")

    return encode


FORMS: dict[str, Callable[[str], str]] = {
    "JSON": escaped,
    "JSON, every character": in_characters("\\u{:04x}"),
    "JSON in JSON": lambda text: escaped(escaped(text)),
    "percent": lambda text: urllib.parse.quote(text, safe=""),
    "percent, lower case": lambda text: (
        urllib.parse.quote(text, safe="").lower().replace("ab", "Ab").replace("cd", "cD")
    ),
    "percent, every character": in_characters("%{:02X}"),
    "percent twice": lambda text: urllib.parse.quote(urllib.parse.quote(text, safe=""), safe=""),
    "a form": urllib.parse.quote_plus,
    "a form, decoded once too often": lambda text: urllib.parse.unquote_plus(text),
    "HTML, hexadecimal": in_characters("&#x{:X};"),
    "HTML, decimal": in_characters("&#{:d};"),
    "HTML, by name": lambda text: text.replace("/", "&sol;").replace("+", "&plus;").replace("=", "&equals;"),
    "HTML in JSON": lambda text: escaped(in_characters("&#{:d};")(text)),
    "JSON in a URL": lambda text: urllib.parse.quote(escaped(text), safe=""),
    "base64 of Bearer": base64_of("Bearer "),
    "base64 of a user": base64_of("user:"),
    "base64, first place": base64_of(""),
    "base64, second place": base64_of(":"),
    "base64, third place": base64_of("u:", padding=False),
    "base64 for URLs": base64_of("me:", b"-_", padding=False),
    "base64 in a URL": lambda text: urllib.parse.quote(base64_of("Bearer ")(text), safe=""),
    "Python's repr": in_characters("\\x{:02x}"),
    "cut": lambda text: text[:14] + "...",
    "cut, escaped": lambda text: escaped(text[:14] + "..."),
}


def hard_key_is_nowhere(error: BaseException | None, quoted: str) -> None:
    if error is None:
        return
    key_is_nowhere(error)
    stack = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    variables = [frame.locals for frame in stack if frame.filename.startswith(PACKAGE)]
    seen = f"{error}{vars(error)}{error.args}{variables}{pickle.dumps(error).decode('latin-1')}"
    for text in (HARD[8:], quoted, json.dumps(quoted)[1:-1], base64_of("")(HARD)[4:-6]):
        assert text not in seen
    hard_key_is_nowhere(error.__cause__, quoted)


@pytest.mark.parametrize("form", FORMS)
def test_a_key_in_another_form_is_in_no_error(provider: Provider, box: Any, form: str) -> None:
    quoted = FORMS[form](HARD)
    # Some forms are JSON's own escapes, some would be escaped once more.
    for said in (f'"bad key: {quoted}"', json.dumps(f"bad key: {quoted}")):
        try:
            json.loads(said)
        except ValueError:
            continue
        body = f'{{"error": {{"message": {said}, "code": {said}, "status": {said}, "type": {said}}}}}'
        replies = [
            Reply(
                401, {"content-type": "application/json", "x-request-id": quoted, "request-id": quoted}, body.encode()
            ),
            Reply(200, {"content-type": "text/html"}, b"x" * 170 + b" " + quoted.encode()),
            Reply(302, {"location": f"https://elsewhere/?key={quoted}"}),
        ]
        for reply in replies:
            with Proxy(box, lambda _, reply=reply: reply) as proxy:
                client = opened(provider, {"api_key": HARD, **options_through(proxy, provider, box)})
                with pytest.raises(llmbackend.APIError, match=r"\*\*\*") as caught:
                    client.get_response("a")
                hard_key_is_nowhere(caught.value, quoted)
                with pytest.raises(llmbackend.APIError, match=r"\*\*\*") as caught:
                    client.get_batch(IDS[provider.name]).status()
                hard_key_is_nowhere(caught.value, quoted)


@pytest.mark.parametrize("form", FORMS)
def test_a_key_in_another_form_is_in_no_item(box: Any, form: str) -> None:
    quoted = FORMS[form](HARD)
    answer = {"status_code": 401, "body": {"error": {"message": f"bad key: {quoted}", "code": quoted}}}
    rows = [
        json.dumps({"custom_id": "llmb-000000", "response": answer}),
        json.dumps({"custom_id": "llmb-000001", "error": {"code": "batch_expired", "message": f"bad key: {quoted}"}}),
    ]
    job = {"id": "batch_a", "status": "completed", "output_file_id": "f", "request_counts": {"total": 2}}
    failed = {"id": "batch_b", "status": "failed", "errors": {"data": [{"message": f"bad {quoted}", "code": quoted}]}}

    def hook(exchange: Exchange) -> Reply:
        if is_content(exchange):
            return Reply(200, {}, "\n".join(rows).encode())
        return Reply.of(failed if "batch_b" in exchange.path else job)

    with Proxy(box, hook) as proxy:
        client = llmbackend.client("openai", "m", api_key=HARD, base_url=proxy.url)
        for item in client.get_batch("batch_a").items():
            assert "***" in str(item.error)
            hard_key_is_nowhere(item.error, quoted)
            assert quoted not in repr(item)
        with pytest.raises(llmbackend.BatchFailedError, match=r"\*\*\*") as caught:
            client.get_batch("batch_b").wait()
        hard_key_is_nowhere(caught.value, quoted)


def test_a_state_that_quotes_the_key(box: Any) -> None:
    with Proxy(box, lambda _: Reply.of({"id": "batch_a", "status": f"stuck at {KEY}"})) as proxy:
        client = llmbackend.client("openai", "m", api_key=KEY, base_url=proxy.url)
        assert client.get_batch_status("batch_a")["raw_state"] == "stuck at ***"


def test_an_honest_message_is_not_changed(box: Any) -> None:
    said = "Use a key like sk-proj-... in application/json; 100%25 of caf\u00e9 &amp; aGVsbG8gd29ybGQgaGVsbG8="
    with Proxy(box, lambda _: Reply.of({"error": {"message": said}}, 400)) as proxy:
        options = {
            "api_key": HARD,
            "base_url": proxy.url,
            "headers": {"x-kind": "application/xml", "x-a": "helloworld"},
        }
        with pytest.raises(llmbackend.InvalidRequestError) as caught:
            llmbackend.get_response("openai", "m", "a", **options)
        assert caught.value.message == said


LOUD = """
import logging, sys
logging.basicConfig(level=0, stream=sys.stdout)
import llmbackend
try:
    llmbackend.get_response("openai", "m", "a", api_key=sys.argv[1], base_url=sys.argv[2], max_retries=1)
except llmbackend.AuthenticationError:
    print("failed")
"""


def test_nothing_is_logged(box: Any) -> None:
    with Proxy(box, lambda _: Reply.of({"error": {"message": KEY}}, 401)) as proxy:
        environment = OWN_ENV | {"RUST_LOG": "trace", "RUST_BACKTRACE": "full"}
        assert run_python(LOUD, KEY, proxy.url, env=environment) == "failed\n"
