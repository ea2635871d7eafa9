"""Base URLs as people have them, the headers that a caller may add, and files that are nobody else's."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recorder import Recorder, Reply
from support import run_python
from table import ALL, Provider, ended

import llmbackend

QUERY = "api-version=2026-01-01&x=%20y"
ANSWERS = {
    "openai": {
        "object": "response",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "a"}]}],
    },
    "anthropic": {"type": "message", "content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn"},
    "gemini": {"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}]},
}


@pytest.fixture(params=ALL, ids=lambda it: it.name)
def provider(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


def test_a_query_stays_on_every_request(provider: Provider, box: Any) -> None:
    """Single calls, uploads, jobs, lists and downloads."""
    box.fault(f"lost_reply:1@POST {provider.create}")
    base = box.url(provider.name)
    client = llmbackend.client(provider.name, provider.model, api_key="sandbox", base_url=f"{base}/?{QUERY}")
    assert client.get_response("a") == "a"
    native = {"native": True}
    if provider.name == "anthropic":
        box.clear_faults()
    batch = client.submit_batch(["a", "b"], batch_options=native).wait(0.01)
    assert batch.results() == ["a", "b"]
    assert client.fetch_batch_results(batch.id) == ["a", "b"]
    client.submit_batch(["a"], batch_options=native).cancel()


def test_a_query_is_sent_as_it_was_written(provider: Provider, recorder: Recorder) -> None:
    recorder.replies = [Reply(ANSWERS[provider.name])]
    base = f"{recorder.root}/mount?{QUERY}"
    client = llmbackend.client(provider.name, "m", api_key="k", base_url=base)
    assert client.get_response("a") == "a"
    for request in recorder.requests:
        path, _, query = request.path.partition("?")
        assert path.startswith("/mount/")
        assert query == QUERY


@pytest.mark.parametrize("variable", [True, False])
def test_a_query_of_the_request_and_one_of_the_client(recorder: Recorder, variable: bool, monkeypatch: Any) -> None:
    monkeypatch.setenv("LLMBACKEND_TEST_TIMESCALE", "0")
    base, options = f"{recorder.root}/v1?{QUERY}", {}
    if variable:
        monkeypatch.setenv("OPENAI_BASE_URL", f'"{base}"')
    else:
        options = {"base_url": base}
    recorder.replies = [Reply({"id": "file-1"}), Reply(drop=True), Reply({"data": []})]
    client = llmbackend.client("openai", "m", api_key="k", max_retries=0, **options)
    with pytest.raises(llmbackend.UnknownCreateError):
        client.submit_batch(["a"])
    assert recorder.requests[0].path == f"/v1/files?{QUERY}"
    assert recorder.requests[1].path == f"/v1/batches?{QUERY}"
    assert recorder.requests[2].path == f"/v1/batches?limit=100&{QUERY}"


@pytest.mark.parametrize(
    ("base", "options", "path"),
    [
        ("/v1beta", {"api_version": "v1"}, "/v1/"),
        ("/v1", {"api_version": "v1beta"}, "/v1beta/"),
        ("/v1alpha/", {"api_version": "v1"}, "/v1/"),
        ("/v1beta2", {"api_version": "v1beta"}, "/v1beta/"),
        ("/v1", {}, "/v1/"),
        ("/v1beta", {}, "/v1beta/"),
        ("", {}, "/v1beta/"),
        ("/vertex", {}, "/vertex/v1beta/"),
        ("/gateway/v1?a=b", {"api_version": "v1beta"}, "/gateway/v1beta/"),
    ],
)
def test_a_version_in_geminis_base_url_is_not_doubled(
    recorder: Recorder, base: str, options: dict[str, str], path: str
) -> None:
    recorder.replies = [Reply(ANSWERS["gemini"])]
    client = llmbackend.client("gemini", "m", api_key="k", base_url=recorder.root + base, **options)
    assert client.get_response("a") == "a"
    assert recorder.requests[0].path.startswith(f"{path}models/m:generateContent")


@pytest.mark.parametrize("name", ["seed", "max_tokens"])
def test_azure_counts_as_openai(name: str) -> None:
    """It has no seed, and no fewer tokens than 16; nothing is sent here."""
    client = llmbackend.client(
        "openai",
        "m",
        api_key="k",
        base_url="https://name.openai.azure.com/openai/v1?api-version=preview",
        timeout=0.001,
    )
    with pytest.warns(llmbackend.UnsupportedParameterWarning), pytest.raises(llmbackend.ConfigurationError):
        client.submit_batch(["a", 7], {name: 7})
    with pytest.raises(llmbackend.ConfigurationError, match="no key for openai"):
        llmbackend.client("openai", "m", base_url="https://name.openai.azure.com/openai/v1")
    llmbackend.client("openai", "m", base_url="https://name.openai.azure.com/openai/v1", headers={"api-key": "k"})


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ("http:///v1", "name a host"),
        ("http://:8080/v1", "empty host"),
        ("http:/host/v1", "must begin with http"),
        ("http://host/v1\nx-evil: 1", "line break"),
        ("http://ho\tst/v1", "control character"),
        ("http://host/a b", r"U\+0020"),
        ("http://host/#v1", "fragment"),
        ("https://user:secret@host/v1", "user name or password"),
    ],
)
def test_base_urls_that_are_refused(provider: Provider, base: str, said: str) -> None:
    with pytest.raises(llmbackend.ConfigurationError, match=said) as caught:
        llmbackend.client(provider.name, "m", api_key="k", base_url=base)
    assert "base_url" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", ['"sk-quoted-key"', "'sk-quoted-key'", ' "sk-quoted-key"\n'])
def test_quotation_marks_around_a_key_are_not_sent(recorder: Recorder, monkeypatch: Any, value: str) -> None:
    recorder.replies = [Reply(ANSWERS["openai"])]
    monkeypatch.setenv("OPENAI_API_KEY", value)
    for options in ({}, {"api_key": value}):
        llmbackend.get_response("openai", "m", "a", base_url=recorder.url, **options)
        assert recorder.requests[-1].headers["authorization"] == "Bearer sk-quoted-key"
    monkeypatch.setenv("OPENAI_API_KEY", '"sk-quoted-key')
    with pytest.raises(llmbackend.ConfigurationError, match="quotation mark") as caught:
        llmbackend.client("openai", "m")
    assert "sk-quoted" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["content-length", "Content-Length", "transfer-encoding", "connection", "accept-encoding", "Content-Type", "TE"],
)
def test_headers_that_frame_a_message_are_refused(provider: Provider, recorder: Recorder, name: str) -> None:
    for written in (name, f" {name} "):
        with pytest.raises(llmbackend.ConfigurationError, match=f"the header '{name}' frames the message"):
            llmbackend.client(provider.name, "m", api_key="k", base_url=recorder.root, headers={written: "5"})
    assert recorder.requests == []


FILES = """
import os, sys, stat, llmbackend
os.umask(0)
with llmbackend.sandbox(speed=20_000) as box:
    client = llmbackend.client(sys.argv[1], "m", **box.options(sys.argv[1]))
    batches = [client.submit_batch(["a", "b"], batch_options={"native": native}).wait(0.01) for native in (True, False)]
    assert all(batch.results() == ["a", "b"] for batch in batches)
    for number in os.listdir("/proc/self/fd"):
        try:
            status, name = os.stat(f"/proc/self/fd/{number}"), os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode) and name.startswith(os.environ["TMPDIR"]):
            print("file", oct(stat.S_IMODE(status.st_mode)))
    for folder, _, names in os.walk(os.environ["TMPDIR"]):
        if folder != os.environ["TMPDIR"]:
            print("folder", oct(stat.S_IMODE(os.stat(folder).st_mode)))
        for name in names:
            print("file", oct(stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode)))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc, and modes of POSIX")
def test_temporary_files_and_the_sandboxs_folder_are_private(provider: Provider, tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    seen = set(run_python(FILES, provider.name, env=environment).splitlines())
    assert seen == {"folder 0o700", "file 0o600"}


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_a_folder_that_the_user_made_keeps_its_mode(tmp_path: Path) -> None:
    mine, new = tmp_path / "mine", tmp_path / "deep" / "new"
    mine.mkdir(mode=0o755)
    for folder in (mine, new):
        with llmbackend.sandbox(speed=20_000, directory=folder) as box:
            ended(llmbackend.client("openai", "m", **box.options("openai")))
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(mine.stat().st_mode) == 0o755
    assert stat.S_IMODE(new.stat().st_mode) == 0o700
