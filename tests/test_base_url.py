"""A base URL with a query: on every request of a client, and its secrets in no error."""

from __future__ import annotations

import contextlib
import urllib.parse
from typing import Any

import pytest
from proxies import Listener, answering
from support import POLL, Exchange, Proxy, Reply
from table import ALL, NATIVE, Provider
from test_keys import key_is_nowhere

import llmbackend
from llmbackend import ConfigurationError

KEY = "sk-proj-Abc123_secret-456"
QUERY = "api-version=2024-10-21&subscription-key=" + KEY


@pytest.fixture(params=ALL, ids=lambda it: it.name)
def provider(request: pytest.FixtureRequest) -> Any:
    return request.param


def without(exchange: Exchange) -> Reply:
    """The sandbox's answer to the request without the query, of which it knows nothing."""
    path, _, query = exchange.path.partition("?")
    pairs = [pair for pair in query.split("&") if not pair.startswith(("api-version=", "subscription-key="))]
    exchange.path = "?".join([path, "&".join(pairs)]).rstrip("?")
    return exchange.forward()


def through(proxy: Proxy, provider: Provider, box: Any, query: str = QUERY, **options: Any) -> llmbackend.Client:
    base_url = f"{provider.base_url(proxy, box)}?{query}"
    return llmbackend.client(provider.name, provider.model, api_key="sandbox", base_url=base_url, **options)


def test_every_request_has_the_query(provider: Provider, box: Any) -> None:
    paths: list[str] = []

    def hook(exchange: Exchange) -> Reply:
        paths.append(exchange.path)
        return without(exchange)

    with Proxy(box, hook) as proxy:
        client = through(proxy, provider, box)
        assert client.get_response("a") == "a"
        # Gemini's second job is too large for its request: it goes by file, in an upload of several requests.
        for inputs in (["a", "b"], [f"{number}" for number in range(5001)]):
            batch = client.submit_batch(inputs, batch_options=NATIVE)
            assert batch.wait(POLL).results() == inputs
            assert client.fetch_batch_results(batch.id) == inputs
        with contextlib.suppress(llmbackend.InvalidRequestError):  # it may have ended already
            client.submit_batch(["a"], batch_options=NATIVE).cancel()
        assert any("cancel" in path for path in paths)
    assert len(paths) > 10
    for path in paths:
        found = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query, strict_parsing=True)
        assert (found["api-version"], found["subscription-key"]) == (["2024-10-21"], [KEY]), path
        assert path.count("?") == 1


def test_a_list_of_jobs_keeps_its_own_parameters(box: Any) -> None:
    # The answer to the creation is lost, so the list is searched.
    paths: list[str] = []

    def hook(exchange: Exchange) -> Reply:
        paths.append(exchange.path)
        reply = without(exchange)
        return Reply(500) if exchange.method == "POST" and "/batches" in exchange.path else reply

    with Proxy(box, hook) as proxy:
        client = through(proxy, ALL[0], box, "limit=3&" + QUERY, max_retries=0)
        assert client.submit_batch(["a"]).wait(POLL).results() == ["a"]
    (listed,) = [path for path in paths if "/batches?" in path and "limit=100" in path]
    assert urllib.parse.parse_qs(urllib.parse.urlsplit(listed).query)["limit"] == ["100"]


@pytest.mark.parametrize(
    "quoted", [KEY, urllib.parse.quote(KEY, safe=""), KEY.replace("-", "%2D"), KEY.replace("_", "\\u005f")]
)
def test_a_secret_in_the_query_is_in_no_error(provider: Provider, box: Any, quoted: str) -> None:
    said = f'{{"error": {{"message": "api-version 2024-10-21: no key {quoted}", "code": "{quoted}"}}}}'
    reply = Reply(401, {"content-type": "application/json", "x-request-id": quoted}, said.encode())
    with Proxy(box, lambda _: reply) as proxy:
        client = through(proxy, provider, box, max_retries=0)
        with pytest.raises(llmbackend.AuthenticationError) as caught:
            client.get_response("a")
        # What says which API it is, is no secret.
        assert "api-version 2024-10-21: no key ***" in str(caught.value)
        key_is_nowhere(caught.value)
        assert KEY not in f"{client!r}{vars(client)}{client._core!r}"


def test_a_server_that_is_not_there_is_named_without_the_query(provider: Provider, box: Any) -> None:
    with Proxy(box) as proxy:
        host = urllib.parse.urlsplit(proxy.url).netloc
    with pytest.raises(llmbackend.APIConnectionError, match=f"cannot connect to http://{host}: ") as caught:
        through(proxy, provider, box, max_retries=0).get_response("a")
    key_is_nowhere(caught.value)


@pytest.mark.parametrize("bad", ["?x=1#y", "#", "?a=b c", "?a=\n", "?a=\u200bb"])
def test_a_query_that_cannot_be_one_is_refused(provider: Provider, bad: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        llmbackend.client(provider.name, "m", api_key="k", base_url=f"http://h/v1{bad}")


@pytest.mark.parametrize("slash", ["", "/", "//"])
@pytest.mark.parametrize("empty", ["?", "?&", ""])
def test_an_empty_query_is_none(slash: str, empty: str) -> None:
    with Listener(answering()) as server:
        base_url = f"http://127.0.0.1:{server.port}/v1{slash}{empty}"
        assert llmbackend.get_response("openai", "m", "a", api_key="k", base_url=base_url) == "ok"
        assert server.seen[0].startswith(b"POST /v1/responses HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "host", ["mine.openai.azure.com", "MINE.OpenAI.Azure.com", "mine.openai.azure.com.", "eu.api.openai.com"]
)
def test_openai_at_azure_is_openai(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with Listener(answering()) as proxy:
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{proxy.port}")
        base_url = f"http://{host}/openai/v1/?api-version=preview"
        with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
            llmbackend.client("openai", "m", base_url=base_url)
        client = llmbackend.client("openai", "m", base_url=base_url, headers={"api-key": "k"}, max_retries=0)
        with pytest.warns(llmbackend.UnsupportedParameterWarning, match="5 is sent as 16"):
            assert client.get_response("a", config={"max_tokens": 5}) == "ok"
    assert b"/openai/v1/responses?api-version=preview HTTP/1.1" in proxy.seen[0]
    assert b'"max_output_tokens":16' in proxy.seen[0]


@pytest.mark.parametrize("host", ["openai.azure.com.evil.example", "notopenai.azure.com", "openai.azure.com"])
def test_what_only_looks_like_azure_is_another_server(host: str) -> None:
    llmbackend.client("openai", "m", base_url=f"https://{host}/v1")
