"""Handles of batches."""

from __future__ import annotations

import weakref

from ._typing import Generic, T_co, overload
from .errors import (
    BatchError,
    BatchFailedError,
    BatchItemsError,
    ConfigurationError,
    InvalidOutputError,
    warn_caller,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Literal, NoReturn

    from typing_extensions import Self

    from ._client import Client
    from ._core import Batch as _CoreBatch
    from ._core import Results, Usage
    from ._structured import StructuredOutput
    from ._typing import V

# Outcomes brought over from Rust at once.
_CHUNK = 1000
_NEVER_RAN = ("expired", "cancelled", "missing")


class BatchItem(Generic[T_co]):
    """What became of one input.

    Attributes:
        index: The input's position.
        custom_id: Its id in the batch.
        status: "succeeded", "refused", "truncated" (cut by `max_tokens`), "invalid" (does not fit the schema), "failed"
            (the provider refused the request), "expired", "cancelled" or "missing" (the provider returned nothing).
        value: The answer: the text, or with a schema the validated value; None where there is none.
        text: What the model said, if anything.
        error: Why there is no value; None where there is one.
        usage: Token counts, where the provider tells; also of an answer that is of no use, which it charges for.
        finish_reason: As in `Response`; None where no answer came.
    """

    __slots__ = ("custom_id", "error", "finish_reason", "index", "status", "text", "usage", "value")

    def __init__(
        self,
        index: int,
        custom_id: str,
        status: str,
        value: T_co | None = None,
        text: str | None = None,
        error: Exception | None = None,
        usage: Usage | None = None,
        finish_reason: str | None = None,
    ) -> None:
        self.index: int = index
        self.custom_id: str = custom_id
        self.status: str = status
        self.value: T_co | None = value
        self.text: str | None = text
        self.error: Exception | None = error
        self.usage: Usage | None = usage
        self.finish_reason: str | None = finish_reason

    def __repr__(self) -> str:
        what = f"value={self.value!r:.60}" if self.error is None else f"error={self.error!r:.80}"
        return f"BatchItem(index={self.index}, custom_id={self.custom_id!r}, status={self.status!r}, {what})"


class Batch(Generic[T_co]):
    """A batch at a provider. Its results can be fetched by its `id`, at any later time, from any machine."""

    def __init__(self, client: Client, core: _CoreBatch, schema: StructuredOutput[T_co] | None) -> None:
        self._client = client
        self._core = core
        self._schema = schema
        self._warned: set[str] = set()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r}, provider={self._client.provider!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} holds a client and with it a key, and cannot be pickled or copied; "
            f"{self._instead_of_a_pickle}"
        )

    # What to hand to another process.
    _instead_of_a_pickle = "pass batch.id, and call get_batch(id) of a client that is made there"

    @property
    def id(self) -> str:
        """The provider's id of the batch; save it to come back later."""
        return self._core.id

    def _states(self) -> tuple[str, str]:
        state, raw_state, _counts = self._core.look()
        return state, raw_state

    def status(self) -> str:
        """The state now, in the provider's words."""
        return self._states()[1]

    def normalized_status(self) -> str:
        """The state now: "pending", "in_progress", "completed", "failed" or "cancelled" (also: expired)."""
        return self._states()[0]

    def wait(
        self,
        poll_interval: float = 5.0,
        timeout: float | None = None,
        callback: Callable[[str], object] | None = None,
        *,
        progress: bool = False,
    ) -> Self:
        """Waits until the batch has come to an end.

        Args:
            poll_interval: The longest gap between two looks, in seconds. The first gaps are shorter (0.1, 0.2, 0.4
                ...), so that a short job is not waited for long; none is shorter than 0.01.
            timeout: Seconds to wait at most; 0 looks once; None (or inf) waits for ever.
            callback: Called with the normalized state after each look.
            progress: Show a progress bar on stderr.

        Returns:
            The batch itself, when it is completed (its items may have failed all the same).

        Raises:
            BatchFailedError: It failed, or was cancelled or expired. What had finished can still be fetched.
            BatchTimeoutError: Time is out; the batch goes on at the provider.
            APIError, APIConnectionError: The provider cannot be asked, for longer than can be waited out.
        """
        if callback is not None and not callable(callback):
            raise ConfigurationError(f"callback is {callback!r:.60}; give something to call with the state")
        _check_seconds("poll_interval", poll_interval)
        if timeout is not None:
            _check_seconds("timeout", timeout)
            timeout = None if timeout == float("inf") else timeout
        if progress:
            from ._progress import ProgressBar

            with ProgressBar(self.id) as bar:
                self._wait(poll_interval, timeout, callback, bar.update)
        else:
            self._wait(poll_interval, timeout, callback, None)
        return self

    def _wait(
        self,
        poll_interval: float,
        timeout: float | None,
        callback: Callable[[str], object] | None,
        show: Callable[[str, int, int], object] | None,
    ) -> None:
        def on_look(state: str, _raw_state: str, counts: tuple[int, int, int]) -> None:
            if show is not None:
                show(state, counts[0], counts[1])
            if callback is not None:
                callback(state)

        self._core.wait(poll_interval, timeout, on_look)
        state, _raw_state, (_total, done, failed) = self._core.look()
        if state != "completed":
            failure = self._core.failure()
            hint = ""
            if state == "cancelled":
                hint = (
                    f". By the provider's count {max(0, done - failed)} rows had finished: items() has them, and so do"
                    f" results(return_exceptions=True) and fetch_batch_results({self.id!r}, ...)"
                )
            raise BatchFailedError(f"{failure}{hint}", batch_id=self.id)

    def cancel(self) -> None:
        """Asks the provider to stop. What has finished by then can still be fetched, and is paid for."""
        self._core.cancel()

    def items(self) -> Iterator[BatchItem[T_co]]:
        """One item for each input, in order, in constant memory; also what is left of an expired or cancelled batch.

        Each result file is read on its own. Where one cannot be read, inputs without a row are "missing", a
        `UserWarning` names the file, and the next call fetches it again.

        Raises:
            APIError, APIConnectionError: No result file can be read, or the key is wrong.
            BatchNotCompletedError: It has not come to an end.
            BatchFailedError: It failed as a whole, with the provider's reasons.
        """
        results = self._results()
        return self._read(results)

    @overload
    def results(self, return_exceptions: Literal[False] = False) -> list[T_co]: ...
    @overload
    def results(self, return_exceptions: bool) -> list[T_co | Exception]: ...
    def results(self, return_exceptions: bool = False) -> list[Any]:
        """All answers, in the order of the inputs.

        Args:
            return_exceptions: Put the error of an item without a value in its place, instead of raising.

        Returns:
            One entry for each input: the text, or with a schema the validated value.

        Raises:
            BatchNotCompletedError: It has not come to an end.
            BatchFailedError: It failed, or was cancelled or expired before any item finished.
            BatchItemsError: Some items have no value; `.results` and `.errors` hold what there is.
            APIError, APIConnectionError: No result file can be read, or the key is wrong.
        """
        values: list[Any] = []
        errors: dict[int, Exception] = {}
        finished = 0
        for item in self._read(self._results()):
            values.append(item.value)
            finished += item.status not in _NEVER_RAN
            if item.error is not None:
                errors[item.index] = item.error
        state = self._states()[0]
        if state == "cancelled" and not finished:
            raise self._core.failure()
        if state == "failed":
            hint = f". {finished} of its rows had finished: items() has them" if finished else ""
            raise BatchFailedError(f"{self._core.failure()}{hint}", batch_id=self.id)
        if not errors:
            return values
        if return_exceptions:
            for index, error in errors.items():
                values[index] = error
            return values
        index, first = next(iter(errors.items()))
        message = (
            f"batch {self.id}: {len(errors)} of {len(values)} items have no value; the first is {index}: "
            f"{str(first).rstrip('.')}. `.results` holds the others and `.errors` says why; "
            "results(return_exceptions=True) does not raise"
        )
        raise BatchItemsError(message, batch_id=self.id, results=values, errors=errors)

    def _results(self) -> Results:
        results = self._core.results()
        for warning in results.warnings():
            # Results that are not whole are fetched again: what is new of them is told, once.
            if warning not in self._warned:
                self._warned.add(warning)
                warn_caller(warning, UserWarning)
        return results

    def _read(self, results: Results) -> Iterator[BatchItem[T_co]]:
        index = 0
        while index < len(results):
            for outcome in results.read(index, _CHUNK):
                status, text, error, usage, finish_reason, alternatives = outcome
                value: Any = text if error is None else None
                if value is not None and self._schema is not None:
                    try:
                        text, value = self._client._read(self._schema, [value, *alternatives])
                    except InvalidOutputError as invalid:
                        invalid.finish_reason, invalid.usage = finish_reason, usage
                        # The traceback would keep this frame, and in it the answer as it came.
                        status, value, text, error = "invalid", None, invalid.text, invalid.with_traceback(None)
                yield BatchItem(index, results.custom_id(index), status, value, text, error, usage, finish_reason)
                index += 1


_immediate: weakref.WeakValueDictionary[str, CompletedBatch] = weakref.WeakValueDictionary()
_IMMEDIATE = "immediate-"


class CompletedBatch(Batch[T_co]):
    """A batch that was done when it was made: immediate calls, or no inputs. It has the whole interface of `Batch`."""

    # Where this is another reading of a batch: that batch, whose id is known as long as it lives.
    _first: CompletedBatch | None = None
    _instead_of_a_pickle = "its results live in this process: pass list(batch.items()), or batch.results()"

    def __init__(self, client: Client, id: str, results: Results, schema: StructuredOutput[T_co] | None) -> None:
        super().__init__(client, _Done(id, results), schema)  # type: ignore[arg-type]
        _immediate.setdefault(id, self)

    def _read_as(self, schema: StructuredOutput[V]) -> CompletedBatch[V]:
        """The same batch, its answers read as `schema`."""
        batch = CompletedBatch(self._client, self.id, self._core.results(), schema)
        batch._first = self
        return batch


# What interrupts have left: nobody else holds it.
_interrupted: dict[str, CompletedBatch] = {}


class ImmediateBatch:
    """A batch of immediate calls that is in the making.

    Attributes:
        id: Will be the batch's; no other has it, here or elsewhere.
    """

    def __init__(self, client: Client, schema: StructuredOutput[Any] | None) -> None:
        import os

        self.id = f"{_IMMEDIATE}{os.urandom(12).hex()}"
        self._client = client
        self._schema = schema

    def completed(self, results: Results) -> CompletedBatch:
        return CompletedBatch(self._client, self.id, results, self._schema)

    def keep(self, results: Results) -> str:
        """Keeps what an interrupt has left of it as long as this process lives; says where that is."""
        _interrupted[self.id] = self.completed(results)
        return (
            f"llmbackend: {results.rows} of {len(results)} inputs were answered, and their answers are kept as long as"
            f" this process lives: client.get_batch({self.id!r}).items()"
        )


def completed_batch(batch_id: str) -> CompletedBatch | None:
    """The immediate batch of that id; None if it is an id of a provider.

    Raises:
        BatchError: It was immediate, and is gone.
    """
    if not batch_id.startswith(_IMMEDIATE):
        return None
    try:
        return _immediate[batch_id]
    except KeyError:
        message = f"batch {batch_id}: this batch was immediate; its results lived as long as its object"
        raise BatchError(message, batch_id=batch_id) from None


class _Done:
    """The core of a batch that is done."""

    def __init__(self, id: str, results: Results) -> None:
        self.id = id
        self._results = results

    def look(self) -> tuple[str, str, tuple[int, int, int]]:
        return "completed", "completed", (len(self._results), self._results.rows, self._results.failed)

    def wait(self, poll_interval: float, timeout: float | None, on_look: Callable[..., object]) -> None:
        on_look(*self.look())

    def cancel(self) -> None:
        pass

    def results(self) -> Results:
        return self._results


def _check_seconds(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ConfigurationError(f"{name} is {value!r}; give a number of seconds, 0 or more")
