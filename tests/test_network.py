"""The way to a server: proxies of the environment, and whom to trust."""

from __future__ import annotations

import base64
import datetime
import pickle
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from proxies import ANSWER, Listener, answering, socks5, tunnel, with_context, with_tls
from scripts import run

import llmbackend
from llmbackend import APIConnectionError, ConfigurationError

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
FAR = "http://llm.invalid/v1"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


def ask(base_url: str = FAR, **options: Any) -> Any:
    return llmbackend.get_response(
        "openai", "m", "a", **{"api_key": "k", "base_url": base_url, "max_retries": 0, **options}
    )


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("form", ["http://127.0.0.1:{}", "127.0.0.1:{}", "HTTP://127.0.0.1:{}/", " 127.0.0.1:{} "])
def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch, variable: str, form: str) -> None:
    with Listener(answering()) as proxy:
        monkeypatch.setenv(variable, form.format(proxy.port))
        assert ask() == "ok"
        assert proxy.seen[0].startswith(b"POST http://llm.invalid/v1/responses HTTP/1.1\r\n")


@pytest.mark.parametrize("scheme", ["socks", "socks5h", "SOCKS"])
@pytest.mark.parametrize("variable", ["http_proxy", "ALL_PROXY"])
def test_a_socks_proxy_is_used_and_resolves_the_name(
    monkeypatch: pytest.MonkeyPatch, scheme: str, variable: str
) -> None:
    with Listener(socks5) as proxy:
        monkeypatch.setenv(variable, f"{scheme}://127.0.0.1:{proxy.port}")
        assert ask() == "ok"
        target, request = proxy.seen
        assert target == b"\x05\x01\x00\x03\x0bllm.invalid\x00\x50"
        assert request.startswith(b"POST /v1/responses HTTP/1.1\r\n")


def test_a_socks_proxy_gets_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with Listener(socks5) as proxy:
        monkeypatch.setenv("all_proxy", f"socks5://user:p%40ss@127.0.0.1:{proxy.port}")
        assert ask("http://192.0.2.1:81/v1") == "ok"
        assert proxy.seen[:2] == [b"\x01\x04user\x04p@ss", b"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x51"]


def test_an_http_proxy_gets_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with Listener(answering()) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"user:p%40ss@127.0.0.1:{proxy.port}")
        assert ask() == "ok"
        assert b"proxy-authorization: Basic " + base64.b64encode(b"user:p@ss") in proxy.seen[0]


@pytest.mark.parametrize(
    "value", ["ftp://u:hunter2@p:1", "quic://p:1", "http://u:hunter2#@p:1", "http://p:port", "http://"]
)
def test_a_proxy_that_cannot_be_used_is_refused_and_not_bypassed(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    with Listener(answering(), "0.0.0.0") as server:
        monkeypatch.setenv("HTTP_PROXY", value)
        with pytest.raises(ConfigurationError, match="proxy in the environment's HTTP_PROXY") as caught:
            ask(f"http://0.0.0.0:{server.port}/v1")
        assert "hunter2" not in str(caught.value)
        assert server.seen == []
        # Where none is needed, it does not matter.
        assert ask(f"http://127.0.0.1:{server.port}/v1") == "ok"
        assert ask(f"http://localhost:{server.port}/v1") == "ok"


@pytest.mark.parametrize("variable", ["no_proxy", "NO_PROXY"])
@pytest.mark.parametrize("entry", ["*", "0.0.0.0", "0.0.0.0:{}", "0.0.0.0/8", "example.com, 0.0.0.0:{}", "*:{}", "0.*"])
def test_a_server_named_by_address_is_reached_directly(
    monkeypatch: pytest.MonkeyPatch, variable: str, entry: str
) -> None:
    # To this machine, but no loopback address, of which no proxy hears anyway.
    with Listener(answering(), "0.0.0.0") as server, Listener(answering()) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"127.0.0.1:{proxy.port}")
        address = f"http://0.0.0.0:{server.port}/v1"
        assert ask(address) == "ok"
        assert (len(server.seen), len(proxy.seen)) == (0, 1)
        monkeypatch.setenv(variable, entry.format(server.port))
        assert ask(address) == "ok"
        assert (len(server.seen), len(proxy.seen)) == (1, 1)
        monkeypatch.setenv(variable, "0.0.0.0:1, 10.0.0.0/8, .0.0.0, example.com")
        assert ask(address) == "ok"
        assert (len(server.seen), len(proxy.seen)) == (1, 2)


def fails(base_url: str = FAR, kind: type[Exception] = APIConnectionError, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        ask(base_url, **options)
    for text in (str(caught.value), repr(vars(caught.value)), pickle.dumps(caught.value).decode("latin-1")):
        assert "hunter2" not in text
        assert base64.b64encode(b"user:hunter2").decode().rstrip("=") not in text
    return str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "https", "socks", "socks5", "socks4a"])
@pytest.mark.parametrize("base_url", [FAR, "https://192.0.2.1/v1"])
def test_a_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, scheme: str, base_url: str) -> None:
    with Listener(answering()) as proxy:
        place = f"127.0.0.1:{proxy.port}"
    user = "" if scheme == "socks4a" else "user:hunter2@"
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://{user}{place}")
    address = "http://192.0.2.1/v1" if scheme == "socks5" else base_url
    message = fails(address)
    assert f"cannot connect through the proxy {scheme}://{place} (from ALL_PROXY)" in message
    assert "Check ALL_PROXY, or name the server in NO_PROXY" in message


REFUSAL = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 12\r\n\r\nnot hunter2!"


@pytest.mark.parametrize("base_url", [FAR, "https://llm.invalid/v1"])
def test_a_proxy_that_asks_for_a_password_is_named(monkeypatch: pytest.MonkeyPatch, base_url: str) -> None:
    with Listener(answering(REFUSAL)) as proxy:
        monkeypatch.setenv("all_proxy", f"http://user:hunter2@127.0.0.1:{proxy.port}")
        message = fails(base_url)
        assert f"the proxy http://127.0.0.1:{proxy.port} (from all_proxy)" in message
        assert "HTTP 407: it asks for a user name and a password" in message
        assert len(proxy.seen) == 1
        # Nothing was sent to the server, so no job can be there, and none is searched for.
        client = llmbackend.client("openai", "m", api_key="k", base_url=base_url, max_retries=0)
        with pytest.raises(APIConnectionError, match="HTTP 407"):
            client.submit_batch(["a"])


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"HTTP/1.1 503 No\r\ncontent-length: 5\r\n\r\n<hr/>", "refused to open a tunnel"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "is not an HTTP proxy"),
        (b"", "unexpected end of file"),
    ],
)
def test_a_proxy_that_opens_no_tunnel_is_named(monkeypatch: pytest.MonkeyPatch, reply: bytes, words: str) -> None:
    with Listener(answering(reply)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://user:hunter2@127.0.0.1:{proxy.port}")
        message = fails("https://llm.invalid/v1")
        assert f"through the proxy http://127.0.0.1:{proxy.port} (from https_proxy): " in message
        assert words in message


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n<html>hunter2", llmbackend.APIError, "with no JSON"),
        (b"HTTP/1.1 502 No\r\ncontent-length: 5\r\n\r\n<hr/>", llmbackend.ServerError, "It may come from"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", APIConnectionError, "the connection broke"),
        (b"", APIConnectionError, "the connection broke"),
    ],
)
def test_a_proxy_that_answers_itself_is_named(
    monkeypatch: pytest.MonkeyPatch, reply: bytes, kind: type[Exception], words: str
) -> None:
    with Listener(answering(reply)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:hunter2@127.0.0.1:{proxy.port}")
        message = fails(kind=kind)
        assert f"the proxy http://127.0.0.1:{proxy.port} (from http_proxy)" in message
        assert words in message


# TLS.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def bundle(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="module")
def secure(authority: trustme.CA) -> Iterator[Listener]:
    with Listener(with_tls(authority.issue_cert("localhost", "127.0.0.1"), answering())) as server:
        yield server


def test_a_private_authority_is_trusted_by_option(secure: Listener, bundle: Path) -> None:
    for path in (str(bundle), bundle, f" {bundle}"):
        for host in ("localhost", "127.0.0.1"):
            assert ask(f"https://{host}:{secure.port}/v1", ca_bundle=path) == "ok"


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
def test_every_remote_provider_takes_a_ca_bundle(provider: str, secure: Listener, bundle: Path) -> None:
    options = {"api_key": "k", "base_url": f"https://localhost:{secure.port}", "max_retries": 0}
    client = llmbackend.client(provider, "m", **options, ca_bundle=bundle)
    before = len(secure.seen)
    if provider == "openai":
        assert client.get_response("a") == "ok"
    else:  # the answer is OpenAI's
        with pytest.raises((llmbackend.APIError, llmbackend.OutputError)):
            client.get_response("a")
    assert len(secure.seen) == before + 1


def test_a_folder_of_certificates(secure: Listener, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "README").write_text("no certificate")
    (tmp_path / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigurationError, match="holds no PEM certificate"):
        ask(ca_bundle=tmp_path)
    (tmp_path / "0a1b2c3d.0").write_bytes(b"Subject: CN=x\r\n\r\n" + bundle.read_bytes().replace(b"\n", b"\r\n"))
    assert ask(f"https://localhost:{secure.port}/v1", ca_bundle=tmp_path) == "ok"


def test_the_variable_of_the_environment(secure: Listener, bundle: Path) -> None:
    code = "tell(text=client.get_response('a'))"
    options = {"api_key": "k", "base_url": f"https://localhost:{secure.port}/v1"}
    assert run(code, options, SSL_CERT_FILE=str(bundle)) == {"text": "ok"}


def test_a_bundle_replaces_what_the_machine_trusts(secure: Listener, bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    address = f"https://localhost:{secure.port}/v1"
    assert ask(address, ca_bundle=bundle) == "ok"
    # No connection that another client trusts is used.
    message = fails(address, ca_bundle=other)
    assert f"the certificate of {address[:-3]} is not signed by an authority in ca_bundle '{other}'" in message
    message = fails(address)
    assert f"the certificate of {address[:-3]} is not signed by an authority that this machine trusts" in message
    assert "the option ca_bundle" in message
    assert "SSL_CERT_FILE" in message
    both = tmp_path / "both.pem"
    both.write_bytes(other.read_bytes() + bundle.read_bytes())
    assert ask(address, ca_bundle=both) == "ok"


def test_a_bundle_is_read_when_the_client_is_made(tmp_path: Path, bundle: Path) -> None:
    empty, text, der, broken = (tmp_path / name for name in ("empty.pem", "text.pem", "ca.der", "broken.pem"))
    empty.write_bytes(b" \n")
    text.write_text("hello")
    der.write_bytes(ssl.PEM_cert_to_DER_cert(bundle.read_text()))
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    pipe = Path("/dev/zero")
    for path, words in [
        (tmp_path / "none.pem", "cannot be read: No such file"),
        (empty, "is empty"),
        (text, "holds no PEM certificate"),
        (der, "is in DER, not in PEM"),
        (broken, "holds a certificate that cannot be read"),
        (pipe, "cannot be read: it is not a file"),
        (tmp_path / "bad\0name", "cannot be read"),
    ]:
        with pytest.raises(ConfigurationError) as caught:
            llmbackend.client("openai", "m", api_key="k", ca_bundle=path)
        assert f"ca_bundle '{path}' {words}" in str(caught.value)
    for wrong in (3, True, b"ca.pem", ["ca.pem"]):
        with pytest.raises(ConfigurationError, match="ca_bundle"):
            llmbackend.client("openai", "m", api_key="k", ca_bundle=wrong)
    bundle_then_gone = tmp_path / "gone.pem"
    bundle_then_gone.write_bytes(bundle.read_bytes())
    client = llmbackend.client("openai", "m", api_key="k", base_url="https://127.0.0.1:9", ca_bundle=bundle_then_gone)
    bundle_then_gone.unlink()
    assert repr(client) == "Client('openai', 'm')"


def test_other_faults_of_a_certificate_have_their_own_words(
    authority: trustme.CA, bundle: Path, tmp_path: Path
) -> None:
    now = datetime.datetime.now(datetime.timezone.utc)
    old = authority.issue_cert(
        "localhost", not_before=now - datetime.timedelta(9), not_after=now - datetime.timedelta(1)
    )
    young = authority.issue_cert("localhost", not_before=now + datetime.timedelta(1))
    for certificate, words in [
        (old, "has expired, or the clock of this machine is wrong"),
        (young, "is not valid yet, or the clock of this machine is wrong"),
        (authority.issue_cert("other.example"), "is for another host"),
    ]:
        with Listener(with_tls(certificate, answering())) as server:
            message = fails(f"https://localhost:{server.port}/v1", ca_bundle=bundle)
            assert f"the certificate of https://localhost:{server.port} {words}" in message
            assert "ca_bundle" not in message
    ca_as_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    chain = tmp_path / "self.pem"
    chain.write_bytes(authority.private_key_pem.bytes() + authority.cert_pem.bytes())
    ca_as_server.load_cert_chain(chain)
    with Listener(with_context(ca_as_server, answering())) as server:
        message = fails(f"https://localhost:{server.port}/v1", ca_bundle=bundle)
        assert "is that of an authority (CA:TRUE), which cannot be a server's own" in message
    with Listener(lambda _, connection: connection.sendall(b"HTTP/1.1 400 No\r\n\r\n")) as server:
        message = fails(f"https://localhost:{server.port}/v1")
        assert "does not speak TLS" in message
        assert "may have to begin with http://" in message


def test_tls_through_proxies(
    monkeypatch: pytest.MonkeyPatch, authority: trustme.CA, bundle: Path, secure: Listener
) -> None:
    with Listener(with_tls(authority.issue_cert("llm.invalid"), answering())) as server:
        with Listener(tunnel(server.port)) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
            assert ask("https://llm.invalid/v1", ca_bundle=bundle) == "ok"
            assert proxy.seen[0].startswith(b"CONNECT llm.invalid:443 HTTP/1.1\r\n")
            # The certificate is the server's, not the proxy's.
            assert "the certificate of https://llm.invalid is not signed" in fails("https://llm.invalid/v1")
        with Listener(with_tls(authority.issue_cert("localhost"), tunnel(server.port))) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"https://localhost:{proxy.port}")
            assert ask("https://llm.invalid/v1", ca_bundle=bundle) == "ok"
            message = fails("https://llm.invalid/v1")
            assert f"the certificate of https://localhost:{proxy.port} is not signed" in message
            assert "through the proxy" in message
    with Listener(with_tls(authority.issue_cert("localhost"), answering())) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"https://localhost:{proxy.port}")
        assert ask(ca_bundle=bundle) == "ok"
        assert f"the certificate of https://localhost:{proxy.port} is not signed" in fails()


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_forked_child_goes_on_with_its_bundle_and_proxy(secure: Listener, bundle: Path) -> None:
    code = f"""
    warnings.simplefilter("ignore", DeprecationWarning)
    private = llmbackend.client("openai", "m", api_key="k", base_url="https://localhost:{secure.port}/v1",
                                ca_bundle={str(bundle)!r})
    assert private.get_response("a") == client.get_response("a") == "ok"
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        code = 1
        try:
            assert private.get_response("a") == client.get_response("a") == "ok"
            code = 0
        finally:
            os._exit(code)
    signal.alarm(30)
    _, status = os.waitpid(pid, 0)
    assert private.get_response("a") == client.get_response("a") == "ok"
    tell(status=status)
    """
    with Listener(answering()) as proxy:
        options = {"api_key": "k", "base_url": FAR}
        assert run(code, options, HTTP_PROXY=f"127.0.0.1:{proxy.port}") == {"status": 0}
        assert len(proxy.seen) == 3


def test_a_plain_answer_is_the_same_as_before() -> None:
    with Listener(answering(ANSWER)) as server:
        assert ask(f"http://127.0.0.1:{server.port}/v1") == "ok"
