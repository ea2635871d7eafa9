"""Everything that this package raises.

::

    LLMBackendError
    ├── ConfigurationError(ValueError)        before anything is sent
    │   └── SchemaError
    ├── MissingDependencyError(ImportError)   names the pip extra
    ├── APIError                              the provider answered with an error
    │   ├── AuthenticationError
    │   ├── PermissionDeniedError
    │   ├── NotFoundError
    │   ├── InvalidRequestError
    │   ├── RateLimitError
    │   │   └── QuotaExceededError            waiting does not help; never retried
    │   └── ServerError                       5xx, overloaded
    ├── APIConnectionError(ConnectionError)   no answer came
    │   └── APITimeoutError(TimeoutError)
    ├── EngineError(RuntimeError)             a local engine failed
    ├── OutputError                           a reply came, but no usable answer is in it
    │   ├── RefusalError
    │   ├── ContentFilterError
    │   ├── TruncatedError
    │   └── InvalidOutputError(ValueError)    does not fit the schema
    └── BatchError(RuntimeError)
        ├── BatchNotCompletedError
        ├── BatchFailedError
        ├── BatchItemsError                   some items have no value
        ├── BatchTimeoutError(TimeoutError)
        └── UnknownCreateError                it is not known whether the job exists

No message, attribute or traceback holds a key: where a server quotes one, there is `***`. (Answers are the caller's,
and are not changed.) Every error can be pickled.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any

    from ._core import Usage


class LLMBackendError(Exception):
    """The root of all errors of this package; itself raised for trouble with the local disk."""


class ConfigurationError(LLMBackendError, ValueError):
    """A mistake in an argument, an option or the environment, found before anything was sent."""


class SchemaError(ConfigurationError):
    """A JSON Schema that is wrong, or that the provider cannot take.

    Attributes:
        path: JSON pointer to the place in the schema.
    """

    def __init__(self, message: str = "", *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class MissingDependencyError(LLMBackendError, ImportError):
    """An optional package is not installed; the message names the pip extra that brings it."""


class APIError(LLMBackendError):
    """The provider answered, and the answer is an error (or no answer at all, with a status of 200).

    Attributes:
        provider: The provider's name.
        status: The HTTP status; None for a row of a batch that has none.
        code: The provider's code, such as ``"model_not_found"``.
        message: The provider's own message.
        request_id: What the provider's support will ask for.
        retry_after: Seconds that the provider asked us to wait.
        body: The reply's body as text, shortened.
    """

    def __init__(
        self,
        text: str = "",
        *,
        provider: str | None = None,
        status: int | None = None,
        code: str | None = None,
        message: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        body: str | None = None,
    ) -> None:
        super().__init__(text)
        self.provider = provider
        self.status = status
        self.code = code
        self.message = text if message is None else message
        self.request_id = request_id
        self.retry_after = retry_after
        self.body = body


class AuthenticationError(APIError):
    """401: the key is wrong."""


class PermissionDeniedError(APIError):
    """403: the key may not do this."""


class NotFoundError(APIError):
    """404: no such model, file or batch."""


class InvalidRequestError(APIError):
    """400 and every other 4xx without a class of its own: the provider does not take the request as it is."""


class RateLimitError(APIError):
    """429: too fast. Was retried `max_retries` times, or the wait asked for is over two minutes."""


class QuotaExceededError(RateLimitError):
    """The account has no credit, or a spending limit is reached. Never retried."""


class ServerError(APIError):
    """5xx, 408 and 409: the provider is in trouble or overloaded."""


class APIConnectionError(LLMBackendError, ConnectionError):
    """No whole answer came over the wire."""


class APITimeoutError(APIConnectionError, TimeoutError):
    """No answer came within `timeout` seconds of silence, or no whole one within `deadline` seconds."""


class EngineError(LLMBackendError, RuntimeError):
    """A local engine failed, or is installed and cannot be used; the message has what it said, as has `__cause__`."""


class OutputError(LLMBackendError):
    """A reply came, but no usable answer is in it.

    Attributes:
        text: What the model did say, if anything.
        finish_reason: As in `Response`; None where the provider tells none.
        usage: Token counts, as in `Response`: the provider charges for this reply, too.
        response: The reply's body; None for a row of a batch.
    """

    def __init__(
        self,
        message: str = "",
        *,
        text: str | None = None,
        finish_reason: str | None = None,
        usage: Usage | None = None,
        response: str | None = None,
    ) -> None:
        super().__init__(message)
        self.text = text
        self.finish_reason = finish_reason
        self.usage = usage
        self.response = response


class RefusalError(OutputError):
    """The model refused; `text` says how."""


class ContentFilterError(OutputError):
    """The provider's filter stopped the answer."""


class TruncatedError(OutputError):
    """`max_tokens` was reached before there was a usable answer."""


class InvalidOutputError(OutputError, ValueError):
    """The answer does not fit the schema, or the parser did not take it; `text` is the raw answer."""


class BatchError(LLMBackendError, RuntimeError):
    """Trouble with a batch; itself the error of an item that expired, was cancelled or is missing.

    Attributes:
        batch_id: The batch's id.
    """

    def __init__(self, message: str = "", *, batch_id: str | None = None) -> None:
        super().__init__(message)
        self.batch_id = batch_id


class BatchNotCompletedError(BatchError):
    """The results were asked for before the batch was done."""


class BatchFailedError(BatchError):
    """The batch failed, or was cancelled or expired; the message has the provider's reasons."""


class BatchItemsError(BatchError):
    """Some items of a batch have no value.

    Attributes:
        results: One entry for each input, in order; None where there is no value.
        errors: The error of each input without a value, by the input's index.
    """

    def __init__(
        self,
        message: str = "",
        *,
        batch_id: str | None = None,
        results: list[Any] | None = None,
        errors: dict[int, Exception] | None = None,
    ) -> None:
        super().__init__(message, batch_id=batch_id)
        self.results = [] if results is None else results
        self.errors = {} if errors is None else errors


class BatchTimeoutError(BatchError, TimeoutError):
    """`wait()` ran out of time. The batch goes on at the provider."""


class UnknownCreateError(BatchError):
    """A job was being created, and it is not known whether it exists. It is never created again by itself.

    The request was sent, no usable answer came (`__cause__` says what came instead), and for a minute the provider's
    list of jobs did not show it. There are two ways on: if the job exists, `get_batch` takes its id; if it is still not
    in the list after ten minutes or more, submit the prompts again.

    Attributes:
        job: Which job of the batch, counted from 0.
        sent_at: When the request was sent, in UTC, by the clock of this machine.
        candidates: Ids of jobs that may be it, where the provider's list does not say enough: Anthropic's, which shows
            the number of requests alone.
    """

    def __init__(
        self,
        message: str = "",
        *,
        batch_id: str | None = None,
        job: int = 0,
        sent_at: datetime | None = None,
        candidates: list[str] | None = None,
    ) -> None:
        super().__init__(message, batch_id=batch_id)
        self.job = job
        self.sent_at = sent_at
        self.candidates = [] if candidates is None else candidates


class UnsupportedParameterWarning(UserWarning):
    """A parameter that the provider does not have was left out or changed. Shown once a client."""


def warn_unsupported(message: str) -> None:
    """Warns of a parameter that was left out or changed."""
    warn_caller(message, UnsupportedParameterWarning)


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warns, at the line of the caller's code that led here."""
    import sys
    import warnings

    package = __name__.partition(".")[0]
    frame, depth = sys._getframe(), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame, depth = frame.f_back, depth + 1
    warnings.warn(message, category, stacklevel=depth)


def add_note(error: BaseException, note: str) -> None:
    """Puts `note` on `error`. Python 3.10 has no notes; there the error's own text has to tell."""
    if hasattr(error, "add_note"):
        error.add_note(note)
    else:
        error.args = (*error.args, note)
