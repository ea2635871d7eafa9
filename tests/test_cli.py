"""The `llmbackend` command, run as a user runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import llmbackend
from llmbackend import _demo, _progress
from llmbackend.cli import main

COMMAND = Path(sysconfig.get_path("scripts")) / "llmbackend"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(COMMAND), *arguments]
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=50, env=env)


def test_python_dash_m_is_the_command() -> None:
    command = [sys.executable, "-m", "llmbackend", "--version"]
    assert subprocess.check_output(command, text=True, timeout=50) == run("--version").stdout


def test_demo() -> None:
    done = run("demo")
    assert done.returncode == 0, done.stderr
    rows = int(re.search(r"^([\d,]+) prompts", done.stdout).group(1).replace(",", ""))  # type: ignore[union-attr]
    assert rows > 2500
    assert f"Each of the {rows:,} answers is a valid FunctionCard and stands at its own prompt." in done.stdout
    for step in ("collect", "submit", "wait", "results"):
        assert re.search(rf"^{step}.* \d+\.\d\d s$", done.stdout, re.MULTILINE)
    assert max(map(len, done.stdout.splitlines())) <= 110
    # Not a terminal: a line a state, and no carriage returns.
    assert "\r" not in done.stderr
    assert f"{rows}/{rows} completed" in done.stderr
    assert len(done.stderr.splitlines()) <= 4


@pytest.mark.parametrize(
    ("provider", "create", "batch_id"),
    [
        ("openai", "/v1/batches", "batch_"),
        ("anthropic", "/v1/messages/batches", "msgbatch_"),
        ("gemini", ":batchGenerateContent", "batches/"),
    ],
)
def test_demo_on_each_provider(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], provider: str, create: str, batch_id: str
) -> None:
    seen: list[tuple[str, str, int]] = []
    close = llmbackend.Sandbox.close

    def close_and_tell(box: llmbackend.Sandbox) -> None:
        seen.extend(box.requests())
        close(box)

    monkeypatch.setattr(llmbackend.Sandbox, "close", close_and_tell)
    assert main(["demo", "--provider", provider, "--rows", "300"]) == 0
    out = capsys.readouterr().out
    assert "Each of the 300 answers is a valid FunctionCard and stands at its own prompt." in out
    assert re.search(rf"^Batch: +{batch_id}\w", out, re.MULTILINE)
    # One native job: not a call for each prompt.
    assert [status for method, path, status in seen if method == "POST" and path.endswith(create)] == [200]
    assert len(seen) < 100


def test_demo_with_more_rows_than_texts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--rows", "9000"]) == 0
    assert "Each of the 9,000 answers" in capsys.readouterr().out


def test_demo_where_the_terminal_knows_ascii_only() -> None:
    done = run("demo", "--rows", "3000", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr


def test_demo_notices_answers_at_the_wrong_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = llmbackend.Batch.results

    def swapped(batch: llmbackend.Batch) -> list[object]:
        found = honest(batch)
        found[3], found[4] = found[4], found[3]
        return found

    monkeypatch.setattr(llmbackend.Batch, "results", swapped)
    assert main(["demo", "--rows", "10"]) == 1
    assert "10 prompts, 10 answers, 2 not at their own prompt; the first astray is number 3" in capsys.readouterr().out
    monkeypatch.setattr(llmbackend.Batch, "results", lambda batch: honest(batch)[:-1])
    assert main(["demo", "--rows", "10"]) == 1
    assert "10 prompts, 9 answers" in capsys.readouterr().out


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
def test_every_provider_enforces_the_shape_of_the_demo(provider: str) -> None:
    assert llmbackend.StructuredOutput(pydantic_model=_demo._function_card()).report(provider) == []


def test_docstrings_are_the_same_each_time() -> None:
    found = list(_demo.docstrings())
    assert found == list(_demo.docstrings())
    assert len({name for name, _doc in found}) == len(found)
    text = "".join(doc for _name, doc in found)
    assert '"' in text
    assert "\n" in text
    assert "\\" in text
    assert not text.isascii()


def test_collecting_has_no_side_effects() -> None:
    code = "import llmbackend._demo as d; print(len(list(d.docstrings())))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert done.returncode == 0
    assert done.stdout.strip().isdecimal()
    assert done.stderr == ""


def test_version_and_help() -> None:
    assert run("--version").stdout == f"llmbackend {llmbackend.__version__}\n"
    shown = run("--help").stdout
    assert "llmbackend[cli]" in shown
    assert "tqdm" in shown
    assert "pyarrow" in shown
    assert run().returncode == 2
    shown = run("demo", "--help").stdout
    for provider in ("openai", "anthropic", "gemini"):
        assert provider in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["demo", "--provider", "opnai"], ["opnai", "openai"]),
        (["demo", "--rows", "0"], ["whole number from 1 to 50000"]),
        (["demo", "--rows", "many"], ["'many'"]),
        (["sandbox", "--fault", "rate_limt"], ["rate_limt", "rate_limit"]),
        (["sandbox", "--host", "nowhere"], ["nowhere", "127.0.0.1"]),
        (["sandbox", "--speed", "0"], ["speed"]),
        (["sandbox", "--port", "70000"], ["70000", "65535"]),
        (["sandbox", "--directory", "/dev/null/below"], ["/dev/null/below"]),
        (["dmo"], ["dmo"]),
    ],
)
def test_mistakes_are_told_without_a_traceback(arguments: list[str], words: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    if not done.stderr.startswith("usage:"):
        assert done.stderr.count("\n") == 1


def test_a_port_that_is_taken() -> None:
    with llmbackend.sandbox() as box:
        port = re.search(r":(\d+)/", box.url("openai")).group(1)  # type: ignore[union-attr]
        done = run("sandbox", "--port", port)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert port in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_sandbox_serves_until_it_is_stopped(tmp_path: Path, number: signal.Signals) -> None:
    command = [str(COMMAND), "sandbox", "--fault", "rate_limit:1", "--directory", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        told = dict(process.stdout.readline().strip().removeprefix("export ").split("=", 1) for _ in range(2))
        assert "Ctrl-C" in process.stderr.readline()
        client = llmbackend.client(
            "openai", "m", api_key=told["OPENAI_API_KEY"], base_url=told["OPENAI_BASE_URL"], max_retries=0
        )
        with pytest.raises(llmbackend.RateLimitError):
            client.get_response("Hello")
        assert client.get_response("Hello")
        process.send_signal(number)
        assert process.wait(timeout=10) == 0
        assert process.stderr.read() == ""


class Terminal:
    """A stderr that says that it is a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass

    def fileno(self) -> int:
        raise OSError("no file")

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("has_tqdm", [True, False])
def test_the_bar_in_a_terminal(monkeypatch: pytest.MonkeyPatch, has_tqdm: bool) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    if not has_tqdm:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    with _progress.ProgressBar("batch_" + "x" * 60) as bar:
        bar.update("pending", 0, 0)
        bar.update("in_progress", 300, 150)
        bar.update("completed", 300, 300)
    last = re.split(r"[\r\n]+", terminal.text.strip("\r\n"))[-1]
    assert "batch_xxx" in last
    assert "300/300" in last
    assert "completed" in last
    assert terminal.text.endswith("\n")
    assert ("[00:00<" in terminal.text) == has_tqdm  # only tqdm tells the time
