"""`llmbackend demo`: real text, the whole way through a native batch, against the sandbox."""

from __future__ import annotations

import sys
import time

import llmbackend

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# Virtual seconds per real second. A sandbox's job takes about 85 virtual seconds, and a little for each row: here a bit
# more than two real ones, so that there is progress to see.
_SPEED = 40.0
# Answers to show.
_SHOWN = 8

# Modules that every Python has, and that do nothing when they are imported.
_MODULES = """
abc argparse array ast asyncio base64 bdb binascii bisect builtins bz2 calendar cmath cmd code codecs codeop
collections colorsys concurrent.futures configparser contextlib contextvars copy copyreg csv ctypes dataclasses
datetime decimal difflib dis doctest email.message email.policy email.utils enum errno filecmp fileinput fnmatch
fractions ftplib functools gc getopt getpass gettext glob graphlib gzip hashlib heapq hmac html html.parser
http.client http.cookies http.server imaplib importlib importlib.metadata importlib.resources importlib.util inspect
io ipaddress itertools json keyword linecache locale logging logging.config logging.handlers lzma mailbox marshal math
mimetypes mmap modulefinder multiprocessing netrc numbers operator optparse os os.path pathlib pdb pickle pickletools
pkgutil platform plistlib poplib pprint profile pstats py_compile pyclbr pydoc queue quopri random re reprlib runpy
sched secrets select selectors shelve shlex shutil signal site smtplib socket socketserver sqlite3 ssl stat statistics
string struct subprocess symtable sys sysconfig tarfile tempfile textwrap threading time timeit token tokenize tomllib
trace traceback tracemalloc types typing unicodedata unittest unittest.mock urllib.error urllib.parse urllib.request
urllib.robotparser uuid venv warnings wave weakref webbrowser wsgiref.handlers wsgiref.headers xml.dom.minidom
xml.etree.ElementTree xml.sax.handler xml.sax.saxutils xmlrpc.client xmlrpc.server zipapp zipfile zipimport zlib
zoneinfo
""".split()  # noqa: SIM905


def docstrings() -> Iterator[tuple[str, str]]:
    """(qualified name, docstring) of the standard library's public functions and methods, each once, in order."""
    import importlib
    import inspect
    import warnings

    seen: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a module may be on its way out of the library
        for module_name in _MODULES:
            try:
                module = importlib.import_module(module_name)
            except ImportError:
                continue  # built without it, or of another version
            for name, thing in _public(module):
                found = [(f"{module_name}.{name}", thing)]
                if inspect.isclass(thing):
                    found = [(f"{module_name}.{name}.{method}", value) for method, value in _public(thing)]
                for qualified_name, function in found:
                    doc = getattr(function, "__doc__", None)
                    if callable(function) and isinstance(doc, str) and doc.strip() and doc not in seen:
                        seen.add(doc)
                        yield qualified_name, doc


def _public(owner: Any) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in sorted(vars(owner).items()) if not name.startswith("_")]


def run(provider: str, rows: int | None) -> int:
    """Runs the demo and prints what happens; the exit status: 0 if every answer stands at its own prompt.

    Args:
        provider: "openai", "anthropic" or "gemini": whose wire format to speak.
        rows: How many prompts; None: one for each docstring.
    """
    times: list[tuple[str, float]] = []

    started = time.perf_counter()
    prompts, FunctionCard = _prompts(rows), _function_card()
    times.append(("collect the docstrings", time.perf_counter() - started))
    size = sum(len(prompt.encode()) for prompt in prompts)
    version = ".".join(map(str, sys.version_info[:2]))
    print(f"{len(prompts):,} prompts: docstrings of Python {version}'s standard library, {size / 1000:,.0f} kB")

    with llmbackend.sandbox(speed=_SPEED) as box:
        print(f"Sandbox: {box.url(provider)} (local: no key, no cost)")
        client = llmbackend.client(provider, "any-model", **box.options(provider))

        started = time.perf_counter()
        options = {"display_name": "demo", "native": True}
        batch = client.submit_batch(prompts, schema=FunctionCard, batch_options=options)
        times.append(("submit: write the rows, upload, create", time.perf_counter() - started))
        print(f"Batch:   {batch.id}", flush=True)

        started = time.perf_counter()
        batch.wait(poll_interval=0.1, progress=True)
        times.append(("wait: the job runs", time.perf_counter() - started))

        started = time.perf_counter()
        cards = batch.results()
        times.append(("results: download, order, validate", time.perf_counter() - started))

    _show(cards, times)
    return _check(prompts, cards)


def _prompts(rows: int | None) -> list[str]:
    texts = [f"{name}\n\n{doc}" for name, doc in docstrings()]
    if rows is None or rows <= len(texts):
        return texts[:rows]
    # More than there are: round after round, each with its number, so that every prompt is there once.
    return [texts[i % len(texts)] + f"\n(round {i // len(texts) + 1})" for i in range(rows)]


def _function_card() -> Any:
    from typing import Literal

    from pydantic import BaseModel

    # Nothing that one of the providers cannot enforce, such as a range on Anthropic: every answer is to fit.
    class FunctionCard(BaseModel):
        summary: str
        difficulty: Literal["easy", "medium", "hard"]
        arguments: int
        is_pure: bool

    return FunctionCard


def _show(cards: list[Any], times: list[tuple[str, float]]) -> None:
    import shutil

    width = min(shutil.get_terminal_size().columns, 110)
    print(f"\n{'difficulty':<12}{'arguments':>9}  {'pure':<6}{'summary (the sandbox echoes the prompt)'}")
    step = max(1, len(cards) // _SHOWN)
    for card in cards[::step][:_SHOWN]:
        summary = " ".join(card.summary.split())
        room = width - 29
        summary = summary if len(summary) <= room else summary[: room - 3] + "..."
        print(f"{card.difficulty:<12}{card.arguments:>9}  {'yes' if card.is_pure else 'no':<6}{summary}")
    print()
    for what, seconds in times:
        print(f"{what:<38}{seconds:>8.2f} s")


def _check(prompts: list[str], cards: list[Any]) -> int:
    # The sandbox echoes the prompt in every free string: an answer tells which prompt it belongs to.
    astray = [i for i, (prompt, card) in enumerate(zip(prompts, cards, strict=False)) if card.summary != prompt]
    if len(cards) != len(prompts) or astray:
        first = f"; the first astray is number {astray[0]}" if astray else ""
        print(
            f"\nWRONG: {len(prompts):,} prompts, {len(cards):,} answers, {len(astray):,} not at their own prompt{first}"
        )
        return 1
    print(f"\nEach of the {len(cards):,} answers is a valid FunctionCard and stands at its own prompt.")
    return 0
