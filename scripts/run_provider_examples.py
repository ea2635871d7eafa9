"""Run a few examples on every provider that is set up here, and show in a table what came of them.

  python scripts/run_provider_examples.py --providers all --sandbox        # no key, no cost
  python scripts/run_provider_examples.py --providers openai,gemini        # real calls, which cost a little
  python scripts/run_provider_examples.py --providers transformers,vllm,mlx --make-tiny-models /tmp/models

Each runs a plain call (which loads the model of a local provider), a system prompt, a config, a batch, and a structured
output (remote) or a conversation (local).

Keys: OPENAI_API_KEY, ANTHROPIC_API_KEY, GOOGLE_API_KEY. A provider without its key or its package is skipped.
Models: LLMBACKEND_TEST_OPENAI_MODEL (gpt-4o-mini), LLMBACKEND_TEST_ANTHROPIC_MODEL (claude-3-5-sonnet-latest) and
LLMBACKEND_TEST_GEMINI_MODEL (gemini-1.5-flash); LLMBACKEND_TEST_TRANSFORMERS_MODEL, LLMBACKEND_TEST_VLLM_MODEL and
LLMBACKEND_TEST_MLX_MODEL have no default: each is a folder, or a name at Hugging Face, of a model for chats.

Exit status: 0 if nothing failed (also if all was skipped, or a batch is pending), 1 if something failed, 2 for a wrong
argument, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import llmbackend

# The examples. Each takes a client, and returns what to show.


def plain(client: llmbackend.Client) -> object:
    return client.get_response("Write a haiku about oceans.")


def system_prompt(client: llmbackend.Client) -> object:
    return client.get_response("How are you?", config={"extra": {"system": "You are a pirate. Be brief."}})


def config(client: llmbackend.Client) -> object:
    config = llmbackend.GenerationConfig(temperature=0.2, max_tokens=200, extra={"stop": ["six"]})
    return client.get_response("Count from one to ten, in words.", config)


def batch(client: llmbackend.Client, timeout: float) -> object:
    batch = client.submit_batch([f"Translate to {language}: Hello" for language in ("Spanish", "French", "German")])
    if not isinstance(batch, llmbackend.CompletedBatch):
        # A job at the provider. Its id is all that it takes to come back, also from another machine.
        print(f"{client.provider}: submitted {batch.id}, waiting up to {timeout:g} s", file=sys.stderr, flush=True)
        batch.wait(timeout=timeout)
    return " | ".join(batch.results())


class City(BaseModel):
    name: str
    country: str
    population: int


def structured_output(client: llmbackend.Client) -> object:
    city: City = client.get_response("Which is the largest city of France?", schema=City)
    return f"{city.name}, {city.country}: {city.population:,}"


def conversation(client: llmbackend.Client) -> object:
    turns = [
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Hello Ada!"},
        {"role": "user", "content": "What is my name?"},
    ]
    return client.get_response(turns)


# Provider -> the model if no variable names one, and the variables that may hold a key.
REMOTE = {
    "openai": ("gpt-4o-mini", ["OPENAI_API_KEY"]),
    "anthropic": ("claude-3-5-sonnet-latest", ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"]),
    "gemini": ("gemini-1.5-flash", ["GOOGLE_API_KEY", "GEMINI_API_KEY"]),
}
LOCAL = ("transformers", "vllm", "mlx")
PROVIDERS = [*REMOTE, *LOCAL]

# vLLM would take nearly all memory for its cache, and compile for half a minute.
TINY_VLLM = {"enforce_eager": True, "max_model_len": 1024, "max_num_seqs": 32, "kv_cache_memory_bytes": 64 << 20}


class Skip(Exception):
    """This provider cannot be tried here, and why."""


class Table:
    """What came of the examples, each line printed as soon as it is known."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, provider: str, example: str, result: str, seconds: float | None, text: str) -> None:
        if not self.counts:
            print(f"{'provider':<14}{'example':<19}{'result':<9}{'seconds':>7}  answer, or what went wrong")
        self.counts[result] += 1
        took = "" if seconds is None else f"{seconds:.2f}"
        print(f"{provider:<14}{example:<19}{result:<9}{took:>7}  {text}", flush=True)

    def summary(self) -> str:
        if set(self.counts) == {"skipped"}:
            return "Nothing ran: every provider was skipped. With --sandbox the remote ones need no key."
        return ", ".join(f"{self.counts[result]} {result}" for result in ("ok", "failed", "pending", "skipped"))


def run_provider(provider: str, options: argparse.Namespace, box: llmbackend.Sandbox | None, table: Table) -> None:
    try:
        client = open_client(provider, options, box)
    except Skip as reason:
        table.add(provider, "all", "skipped", None, str(reason))
        return
    except llmbackend.LLMBackendError as error:
        table.add(provider, "all", "failed", None, describe(error))
        return
    examples: list[tuple[str, Callable[[llmbackend.Client], object]]] = [
        ("plain call", plain),
        ("system prompt", system_prompt),
        ("config", config),
        ("batch", lambda client: batch(client, options.batch_timeout)),
        # Local engines take no schema.
        ("structured output", structured_output) if provider in REMOTE else ("conversation", conversation),
    ]
    with client:  # gives back the memory of a local model
        for name, example in examples:
            if not run_example(client, name, example, table) and example is plain:
                table.add(provider, "the others", "skipped", None, "the plain call failed")
                return


def run_example(
    client: llmbackend.Client, name: str, example: Callable[[llmbackend.Client], object], table: Table
) -> bool:
    """Whether it did not fail."""
    result, began = "ok", time.perf_counter()
    try:
        text = shortened(str(example(client)))
    except llmbackend.BatchTimeoutError as error:
        call = f"fetch_batch_results({error.batch_id!r}, {client.provider!r}, {client.model!r})"
        result, text = "pending", f"the job goes on; later: llmbackend.{call}"
    except Exception as error:  # the next example shall run all the same
        result, text = "failed", describe(error)
        if isinstance(error, llmbackend.NotFoundError):
            text += f" (another model: {model_variable(client.provider)})"
    table.add(client.provider, name, result, time.perf_counter() - began, text)
    return result != "failed"


def open_client(provider: str, options: argparse.Namespace, box: llmbackend.Sandbox | None) -> llmbackend.Client:
    model = os.environ.get(model_variable(provider))
    if provider in REMOTE:
        default, keys = REMOTE[provider]
        try:
            # Without options a client takes key and base URL from the environment.
            return llmbackend.client(provider, model or default, **(box.options(provider) if box else {}))
        except llmbackend.ConfigurationError as error:
            if box or any(map(os.environ.get, keys)):
                raise
            raise Skip(f"{error}; or try --sandbox") from error
    try:
        if model:
            engine_options: dict[str, Any] = {"llm_kwargs": options.llm_kwargs} if provider == "vllm" else {}
            return llmbackend.client(provider, model, **engine_options)
        if options.make_tiny_models is not None:
            engine_options = {"llm_kwargs": TINY_VLLM} if provider == "vllm" else {}
            folder = str(options.make_tiny_models / "scripted")
            return llmbackend.client(provider, folder, apply_chat_template=True, **engine_options)
    except llmbackend.MissingDependencyError as error:
        raise Skip(str(error)) from error
    raise Skip(f"no model: set {model_variable(provider)}, or give --make-tiny-models DIR")


def model_variable(provider: str) -> str:
    return f"LLMBACKEND_TEST_{provider.upper()}_MODEL"


def describe(error: Exception) -> str:
    return printable(f"{type(error).__name__}: {error}")


def shortened(text: str, most: int = 60) -> str:
    text = printable(text)
    return text if len(text) <= most else text[: most - 3] + "..."


def printable(text: str) -> str:
    """In one line, without what a model might do to a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


def provider_names(text: str) -> list[str]:
    names = PROVIDERS if text.strip() == "all" else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in PROVIDERS:
            raise argparse.ArgumentTypeError(f"unknown provider {name!r}; known are all, {', '.join(PROVIDERS)}")
    return list(dict.fromkeys(names))


def seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds, 0 or more")
    return value


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--providers", type=provider_names, metavar="NAMES", help=f"all, or some of {','.join(PROVIDERS)}")
    add("--sandbox", action="store_true", help="run the remote ones against the built-in sandbox")
    job = "how long to wait for a batch on OpenAI or Gemini (600): there it is a job that may take up to a day. Out of "
    job += "time, it counts as pending, not as failed, and the call that fetches it later is shown"
    add("--batch-timeout", type=seconds, default=600.0, metavar="SECONDS", help=job)
    tiny = "make models of half a megabyte in DIR, and use one for each local provider that has no model yet"
    add("--make-tiny-models", type=Path, metavar="DIR", help=tiny)
    vllm = (
        "options of vllm.LLM for your own model. On a CPU it wants nearly all memory, and compiles for half a minute, "
    )
    vllm += 'unless told otherwise: {"enforce_eager": true, "kv_cache_memory_bytes": 1000000000}'
    add("--llm-kwargs", type=json.loads, default={}, metavar="JSON", help=vllm)
    options = parser.parse_args()
    if options.providers is None and options.make_tiny_models is None:
        parser.error("which ones? For instance: --providers all")
    if options.make_tiny_models is not None:
        try:
            import tiny_models  # beside this script

            # Whatever it is asked in a chat, it answers with the numbers from one to ten.
            print(f"made {tiny_models.make_scripted(options.make_tiny_models / 'scripted')}", file=sys.stderr)
        except ImportError as error:
            parser.error(f"--make-tiny-models needs safetensors and tokenizers, which come with each engine ({error})")
        except OSError as error:
            parser.error(f"--make-tiny-models: {error}")
    return options


def main() -> int:
    options = read_arguments()
    if options.providers is None:
        return 0
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every terminal knows every letter
    table = Table()
    try:
        with llmbackend.sandbox() if options.sandbox else contextlib.nullcontext() as box:
            for provider in options.providers:
                run_provider(provider, options, box, table)
    except KeyboardInterrupt as interrupt:
        # What was being submitted stands in the notes.
        print("interrupted", *getattr(interrupt, "__notes__", interrupt.args), sep="; ", file=sys.stderr)
        return 130
    print(table.summary())
    return 1 if table.counts["failed"] else 0


if __name__ == "__main__":
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # it logs into the table
    sys.exit(main())
