"""`scripts/run_provider_examples.py`, run as a user runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import llmbackend

SCRIPT = Path(__file__).parent.parent / "scripts" / "run_provider_examples.py"
REMOTE = ("openai", "anthropic", "gemini")
LOCAL = ("transformers", "vllm", "mlx")
EXAMPLES = ["plain call", "system prompt", "config", "batch", "structured output"]
# Whatever this machine is set up for: no key, no base URL, no model.
CLEAN = re.compile(r"(OPENAI|ANTHROPIC|GOOGLE|GEMINI)_|LLMBACKEND_TEST_")
SECRET = "sk-very-secret-0123456789"


def environment(**variables: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not CLEAN.match(name)} | variables


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    env = environment(**variables)
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=50, env=env)
    assert "Traceback" not in done.stderr
    return done


def rows(done: subprocess.CompletedProcess[str], provider: str) -> list[list[str]]:
    """The table's rows of a provider: example, result, seconds (if it was run), text."""
    return [
        re.split(r"\s{2,}", line, maxsplit=4)[1:]
        for line in done.stdout.splitlines()
        if re.match(rf"{provider}\s", line)
    ]


def summary(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.splitlines()[-1]


def test_all_on_the_sandbox() -> None:
    done = run("--providers", "all", "--sandbox")
    assert done.returncode == 0, done.stderr
    assert summary(done) == "15 ok, 0 failed, 0 pending, 3 skipped"
    assert re.match(r"provider +example +result +seconds", done.stdout)
    for provider in REMOTE:
        found = rows(done, provider)
        assert [row[0] for row in found] == EXAMPLES
        for _example, result, seconds, _text in found:
            assert result == "ok"
            assert re.fullmatch(r"\d+\.\d\d", seconds)
        # The sandbox echoes.
        assert found[0][3] == "Write a haiku about oceans."
        assert found[3][3].startswith("Translate to Spanish: Hello | Translate to French: Hello")
        assert found[4][3].startswith("Which is the largest city of France?, Which is the")
    for provider in LOCAL:
        variable = f"LLMBACKEND_TEST_{provider.upper()}_MODEL"
        assert rows(done, provider) == [
            ["all", "skipped", f"no model: set {variable}, or give --make-tiny-models DIR"],
        ]
    # Jobs are told of before they are waited for.
    assert re.fullmatch(
        r"openai: submitted batch_\w+, waiting up to 600 s\ngemini: submitted batches/\w+, .*\n", done.stderr
    )


def test_providers_run_in_the_order_given_and_once() -> None:
    done = run("--providers", "gemini, openai,gemini", "--sandbox")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()[1:-1]] == ["gemini"] * 5 + ["openai"] * 5


def test_a_model_is_named_by_its_variable() -> None:
    with llmbackend.sandbox() as box:
        done = run("--providers", "gemini", LLMBACKEND_TEST_GEMINI_MODEL="gemini-9-nano", **box.environment())
        assert done.returncode == 0
        asked = [path for _method, path, _status in box.requests() if "/models/" in path]
    assert len(asked) >= 5
    assert all("/models/gemini-9-nano:" in path for path in asked)


def test_without_an_engine() -> None:
    # Also on a machine that has them.
    code = (
        "import runpy, sys\n"
        "sys.modules.update(dict.fromkeys(['torch', 'transformers', 'vllm', 'mlx', 'mlx_lm']))\n"
        f"sys.argv = [{str(SCRIPT)!r}, '--providers', 'transformers,vllm,mlx']\n"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    models = {f"LLMBACKEND_TEST_{provider.upper()}_MODEL": "some/model" for provider in LOCAL}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, env=environment(**models))
    assert done.returncode == 0, done.stderr
    for provider in LOCAL:
        [[example, result, reason]] = rows(done, provider)
        assert (example, result) == ("all", "skipped")
        assert f"pip install 'llmbackend[{provider}]'" in reason
    assert summary(done).startswith("Nothing ran: every provider was skipped. With --sandbox")


def test_without_keys() -> None:
    done = run("--providers", "openai,anthropic,gemini")
    assert done.returncode == 0
    for provider, key in zip(REMOTE, ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY"), strict=True):
        [[example, result, reason]] = rows(done, provider)
        assert (example, result) == ("all", "skipped")
        assert f"set {key}" in reason
    assert summary(done).startswith("Nothing ran")


def test_a_provider_that_cannot_be_reached_does_not_keep_others_from_running() -> None:
    with llmbackend.sandbox() as box:
        closed = box.environment() | {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "OPENAI_API_KEY": SECRET}
        done = run("--providers", "openai,anthropic", **closed)
    assert done.returncode == 1
    [plain, others] = rows(done, "openai")
    assert plain[:2] == ["plain call", "failed"]
    assert plain[3].startswith("APIConnectionError: ")
    assert "127.0.0.1:9" in plain[3]
    assert others == ["the others", "skipped", "the plain call failed"]
    assert [row[1] for row in rows(done, "anthropic")] == ["ok"] * 5
    assert summary(done) == "5 ok, 1 failed, 0 pending, 1 skipped"
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("auth", ["AuthenticationError"]),
        ("model_not_found", ["NotFoundError", "LLMBACKEND_TEST_GEMINI_MODEL"]),
    ],
)
def test_what_the_provider_refuses(fault: str, words: list[str]) -> None:
    with llmbackend.sandbox(faults=[fault]) as box:
        done = run("--providers", "gemini", **box.environment() | {"GOOGLE_API_KEY": SECRET})
    assert done.returncode == 1
    text = rows(done, "gemini")[0][3]
    for word in words:
        assert word in text
    assert SECRET not in done.stdout + done.stderr


def test_one_example_that_fails_does_not_keep_others_from_running() -> None:
    with llmbackend.sandbox(faults=["fail_job"]) as box:
        done = run("--providers", "openai", **box.environment())
    assert done.returncode == 1
    assert [row[1] for row in rows(done, "openai")] == ["ok", "ok", "ok", "failed", "ok"]
    assert "BatchFailedError" in rows(done, "openai")[3][3]


def test_a_wrong_base_url_is_a_failure_and_not_a_missing_key() -> None:
    done = run("--providers", "openai", OPENAI_API_KEY=SECRET, OPENAI_BASE_URL="nowhere")
    assert done.returncode == 1
    [row] = rows(done, "openai")
    assert row[:2] == ["all", "failed"]
    assert "OPENAI_BASE_URL" in row[2]
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("provider", ["openai", "gemini"])
def test_a_batch_that_takes_longer_is_pending_and_can_be_fetched(provider: str) -> None:
    with llmbackend.sandbox(speed=30) as box:
        done = run("--providers", provider, "--batch-timeout", "0", **box.environment())
        assert done.returncode == 0, done.stdout
        _example, result, _seconds, text = rows(done, provider)[3]
        assert result == "pending"
        [(batch_id, named, model)] = re.findall(r"fetch_batch_results\('(.+)', '(.+)', '(.+)'\)", text)
        assert named == provider
        assert f"{provider}: submitted {batch_id}, waiting up to 0 s" in done.stderr
        assert summary(done) == "4 ok, 0 failed, 1 pending, 0 skipped"
        batch = llmbackend.get_batch(batch_id, provider, model, **box.options(provider))
        assert batch.wait(timeout=40).results()[2] == "Translate to German: Hello"


def test_an_interrupt_ends_it_cleanly() -> None:
    with llmbackend.sandbox(speed=0.1) as box:
        command = [sys.executable, str(SCRIPT), "--providers", "openai"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**box.environment())
        )
        assert process.stderr is not None
        submitted = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, complaints = process.communicate(timeout=20)
    assert process.returncode == 130
    # By its id the job can be found again.
    assert re.match(r"openai: submitted batch_\w+", submitted)
    assert complaints == "interrupted\n"
    assert out.count("\n") == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--providers", "openai,opnai"], ["'opnai'", "transformers"]),
        (["--providers", ""], ["''", "openai"]),
        ([], ["--providers all"]),
        (["--providers", "all", "--batch-timeout", "soon"], ["'soon'"]),
        (["--providers", "all", "--batch-timeout", "-1"], ["-1"]),
        (["--providers", "all", "--batch-timeout", "nan"], ["nan"]),
        (["--providers", "all", "--make-tiny-models", "/dev/null/below"], ["--make-tiny-models"]),
    ],
)
def test_mistakes(arguments: list[str], words: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr


def test_help() -> None:
    done = run("--help")
    assert done.returncode == 0
    for provider in REMOTE + LOCAL:
        assert f"LLMBACKEND_TEST_{provider.upper()}_MODEL" in done.stdout
    assert "may take up to a day" in " ".join(done.stdout.split())


def test_where_the_terminal_knows_ascii_only() -> None:
    assert run("--providers", "openai", "--sandbox", PYTHONIOENCODING="ascii").returncode == 0
