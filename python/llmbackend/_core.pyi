"""
The Rust core of llmbackend. Private: use the package.
"""

from _typeshed import Incomplete, SupportsGetItem
from os import PathLike
from typing import Any, SupportsFloat, SupportsIndex, final

@final
class Batch:
    def cancel(self, /) -> tuple[str, str, tuple[int, int, int]]:
        """
        Asks the provider to stop it; the state after that.
        """
    def failure(self, /) -> Any:
        """
        The error that says, in the provider's words, why there are no results.
        """
    @property
    def id(self, /) -> str: ...
    def look(self, /) -> tuple[str, str, tuple[int, int, int]]:
        """
        The state now: (normalized, raw, (total, done, failed)).
        """
    def results(self, /) -> Results:
        """
        Downloads the results and puts them in order.
        """
    def wait(self, /, poll_interval: SupportsFloat | SupportsIndex, timeout: SupportsFloat | SupportsIndex | None, on_look: Any | None) -> None:
        """
        Looks, at least every `poll_interval` seconds, until a terminal state, for at most `timeout` seconds; `on_look` gets
        what each look saw.
        """

@final
class Client:
    """
    A remote provider and a model.
    """
    def __new__(cls, /, provider: str, model: str, options: dict) -> Client: ...
    def generate(self, /, input: Any, config: Incomplete, schema: Schema | None) -> Reply:
        """
        One answer, now.
        """
    def open_batch(self, /, batch_id: str, schema: Schema | None) -> Batch:
        """
        The handle of a batch that exists.
        """
    def redact(self, /, text: str) -> str:
        """
        `text` with every credential of this client blacked out.
        """
    def submit(self, /, inputs: Any, config: Incomplete, schema: Schema | None, options: Incomplete, immediate: Incomplete) -> Any:
        """
        Makes a job of the inputs: a `Batch`; or answers them here and now: `Results`, which become
        what `immediate` says.
        """

@final
class LocalBatch:
    """
    The prompts of a batch for a local engine, read and checked, on the disk; and what became of them.
    """
    def __new__(cls, /, inputs: Any, extra: dict, system: str | None, ids: SupportsGetItem[int, str] | None, batch_id: str) -> LocalBatch:
        """
        `extra` as in `local_prompt`; `system` is `batch_options["system"]`, `ids` the custom ids.
        """
    def answer(self, /, index: SupportsIndex, text: str, finish_reason: str, usage: Usage, model: str) -> None:
        """
        The input at `index` has this answer.
        """
    def fail(self, /, index: SupportsIndex, error: Any) -> None:
        """
        The input at `index` has none, because of `error`.
        """
    def next(self, /, count: SupportsIndex) -> list[bytes]:
        """
        Up to `count` more prompts, each as JSON; none after the last.
        """
    def results(self, /) -> Results:
        """
        What is recorded. If that is not all, the rest was cut short, and counts as cancelled.
        """
    @property
    def stop(self, /) -> list[str]:
        """
        The strings that cut an answer.
        """

@final
class Reply:
    """
    What came back from a single call.
    """
    def __new__(cls, /, text: str, finish_reason: str, usage: Usage | None, model: str | None, id: str | None = None, raw: SupportsGetItem[int, SupportsIndex] | None = None) -> Reply:
        """
        An answer: of a local engine, whose `raw` is what else is given here, or one that was pickled.
        """
    def __reduce__(self, /) -> tuple[Any, Any]: ...
    @property
    def alternatives(self, /) -> list[str]:
        """
        Other texts of the reply, to be tried where this one does not fit.
        """
    @property
    def finish_reason(self, /) -> str: ...
    @property
    def id(self, /) -> str | None: ...
    @property
    def model(self, /) -> str | None: ...
    @property
    def raw(self, /) -> bytes:
        """
        The reply's body as it came.
        """
    def repaired(self, /) -> str:
        """
        The reply's body as JSON that any parser takes.
        """
    @property
    def text(self, /) -> str:
        """
        The text; with a schema, the JSON text of the value.
        """
    @property
    def usage(self, /) -> Usage | None: ...

@final
class Results:
    """
    The results of a batch, in the order of its inputs.
    """
    def __len__(self, /) -> int: ...
    def custom_id(self, /, index: SupportsIndex) -> str: ...
    @property
    def failed(self, /) -> int:
        """
        How many of those that were recorded here have no answer.
        """
    def read(self, /, start: SupportsIndex, count: SupportsIndex) -> list:
        """
        The outcomes of up to `count` inputs from `start` on, fewer if their texts are long: tuples of status, text, error,
        usage, finish reason, and other texts to be tried where the text does not fit.
        """
    @property
    def rows(self, /) -> int:
        """
        How many inputs have a row.
        """
    def warnings(self, /) -> list[str]:
        """
        What the caller should know about them.
        """

@final
class Sandbox:
    """
    A running sandbox; `close` stops it.
    """
    def __new__(cls, /, host: str, port: SupportsIndex, directory: str | PathLike[str] | None, speed: SupportsFloat | SupportsIndex, faults: SupportsGetItem[int, str], seed: SupportsIndex) -> Sandbox:
        """
        Starts a sandbox. `ValueError`: a bad host, speed or fault; `OSError`: the port is taken, or the folder unusable.
        """
    def clear_faults(self, /) -> None: ...
    def close(self, /) -> None:
        """
        Stops the server. A second call does nothing.
        """
    def fault(self, /, text: str) -> None:
        """
        Adds a fault, written `NAME[:TIMES][@METHOD /path-part]`.
        """
    def requests(self, /) -> list[tuple[str, str, int]]:
        """
        (method, path, status) of the requests so far.
        """
    def url(self, /, provider: str) -> str:
        """
        The base URL of a provider.
        """

@final
class Schema:
    """
    A JSON Schema, ready to be compiled to each provider's dialect.
    """
    def __new__(cls, /, schema: dict, name: str, strict: bool, validate: bool) -> Schema: ...
    def report(self, /, provider: str) -> list[tuple[str, str, str]]:
        """
        What a provider cannot enforce and only our validation does: (path, keyword, reason).
        """

@final
class Usage:
    """
    Tokens, with one meaning on every provider: input includes what was cached, output includes reasoning.
    """
    def __add__(self, other: object, /) -> Usage: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    def __new__(cls, /, input_tokens: SupportsIndex = 0, output_tokens: SupportsIndex = 0, cached_tokens: SupportsIndex = 0, reasoning_tokens: SupportsIndex = 0) -> Usage: ...
    def __reduce__(self, /) -> tuple[Any, tuple[int, int, int, int]]: ...
    def __repr__(self, /) -> str: ...
    @property
    def cached_tokens(self, /) -> int:
        """
        The part of the input that was read from the provider's cache.
        """
    @property
    def input_tokens(self, /) -> int:
        """
        Tokens of the prompt, cached ones included.
        """
    @property
    def output_tokens(self, /) -> int:
        """
        Tokens of the answer, reasoning included.
        """
    @property
    def reasoning_tokens(self, /) -> int:
        """
        The part of the output that was reasoning.
        """
    @property
    def total_tokens(self, /) -> int:
        """
        Input and output.
        """

def local_prompt(input: Any, extra: dict) -> tuple[bytes, list[str]]:
    """
    The prompt of a single call as JSON (a str, or a list of messages), and the stop strings.

    `extra` holds those entries of `config.extra` that mean the same on every provider.
    """

def provider_names() -> list[str]:
    """
    The names of the remote providers.
    """

def read_ids(ids: Any) -> list:
    """
    `batch_options["custom_ids"]` as a list, of whatever kind it is.
    """

def unknown_name(what: str, name: str, known: SupportsGetItem[int, str]) -> str:
    """
    One sentence for an unknown name: what it was, the nearest known one, and all that are known.
    """

def __getattr__(name: str) -> Incomplete: ...
