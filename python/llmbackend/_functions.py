"""The API without a client: functions that make one for a call."""

from __future__ import annotations

from ._client import Client
from ._typing import overload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Literal

    from typing_extensions import TypeForm

    from ._batch import Batch
    from ._client import BatchSettings, Config, JsonSchema, Prompt, Schema, Shape
    from ._typing import V


def client(provider: str, model: str, **provider_options: Any) -> Client:
    """A reusable client: see `Client`."""
    return _opened(provider, model, provider_options)


@overload
def get_response(
    provider: str, model: str, input: Prompt, config: Config = None, schema: None = None, **provider_options: Any
) -> str: ...
@overload
def get_response(
    provider: str, model: str, input: Prompt, config: Config = ..., schema: Shape[V] = ..., **provider_options: Any
) -> V: ...
@overload
def get_response(
    provider: str, model: str, input: Prompt, config: Config = ..., schema: TypeForm[V] = ..., **provider_options: Any
) -> V: ...
@overload
def get_response(
    provider: str, model: str, input: Prompt, config: Config = ..., schema: JsonSchema = ..., **provider_options: Any
) -> Any: ...
def get_response(
    provider: str, model: str, input: Prompt, config: Config = None, schema: Schema = None, **provider_options: Any
) -> Any:
    """One answer, without a client: see `Client.get_response`."""
    with _opened(provider, model, provider_options) as client:
        return client.get_response(input, config, schema)


@overload
def create_batch(
    inputs: Iterable[Prompt],
    provider: str,
    model: str,
    config: Config = None,
    schema: None = None,
    batch_options: BatchSettings = None,
    **provider_options: Any,
) -> Batch[str]: ...
@overload
def create_batch(
    inputs: Iterable[Prompt],
    provider: str,
    model: str,
    config: Config = ...,
    schema: Shape[V] = ...,
    batch_options: BatchSettings = None,
    **provider_options: Any,
) -> Batch[V]: ...
@overload
def create_batch(
    inputs: Iterable[Prompt],
    provider: str,
    model: str,
    config: Config = ...,
    schema: TypeForm[V] = ...,
    batch_options: BatchSettings = None,
    **provider_options: Any,
) -> Batch[V]: ...
@overload
def create_batch(
    inputs: Iterable[Prompt],
    provider: str,
    model: str,
    config: Config = ...,
    schema: JsonSchema = ...,
    batch_options: BatchSettings = None,
    **provider_options: Any,
) -> Batch[Any]: ...
def create_batch(
    inputs: Iterable[Prompt],
    provider: str,
    model: str,
    config: Config = None,
    schema: Schema = None,
    batch_options: Mapping[str, Any] | None = None,
    **provider_options: Any,
) -> Batch:
    """A batch, without a client: see `Client.submit_batch`."""
    with _opened(provider, model, provider_options) as client:
        return client.submit_batch(inputs, config, schema, batch_options)


@overload
def get_batch(batch_id: str, provider: str, model: str, schema: None = None, **provider_options: Any) -> Batch[str]: ...
@overload
def get_batch(batch_id: str, provider: str, model: str, schema: Shape[V], **provider_options: Any) -> Batch[V]: ...
@overload
def get_batch(batch_id: str, provider: str, model: str, schema: TypeForm[V], **provider_options: Any) -> Batch[V]: ...
@overload
def get_batch(batch_id: str, provider: str, model: str, schema: JsonSchema, **provider_options: Any) -> Batch[Any]: ...
def get_batch(batch_id: str, provider: str, model: str, schema: Schema = None, **provider_options: Any) -> Batch:
    """The handle of a batch that was submitted earlier: see `Client.get_batch`."""
    return _opened(provider, model, provider_options).get_batch(batch_id, schema)


def get_batch_status(batch_id: str, provider: str, model: str, **provider_options: Any) -> dict[str, str]:
    """The state of a batch by its id: see `Client.get_batch_status`."""
    return _opened(provider, model, provider_options).get_batch_status(batch_id)


@overload
def fetch_batch_results(
    batch_id: str,
    provider: str,
    model: str,
    schema: None = None,
    *,
    return_exceptions: Literal[False] = False,
    **provider_options: Any,
) -> list[str]: ...
@overload
def fetch_batch_results(
    batch_id: str,
    provider: str,
    model: str,
    schema: Shape[V],
    *,
    return_exceptions: Literal[False] = False,
    **provider_options: Any,
) -> list[V]: ...
@overload
def fetch_batch_results(
    batch_id: str,
    provider: str,
    model: str,
    schema: TypeForm[V],
    *,
    return_exceptions: Literal[False] = False,
    **provider_options: Any,
) -> list[V]: ...
@overload
def fetch_batch_results(
    batch_id: str,
    provider: str,
    model: str,
    schema: JsonSchema,
    *,
    return_exceptions: Literal[False] = False,
    **provider_options: Any,
) -> list[Any]: ...
@overload
def fetch_batch_results(
    batch_id: str, provider: str, model: str, schema: None = None, *, return_exceptions: bool, **provider_options: Any
) -> list[str | Exception]: ...
@overload
def fetch_batch_results(
    batch_id: str,
    provider: str,
    model: str,
    schema: Shape[V],
    *,
    return_exceptions: bool,
    **provider_options: Any,
) -> list[V | Exception]: ...
@overload
def fetch_batch_results(
    batch_id: str,
    provider: str,
    model: str,
    schema: TypeForm[V],
    *,
    return_exceptions: bool,
    **provider_options: Any,
) -> list[V | Exception]: ...
@overload
def fetch_batch_results(
    batch_id: str,
    provider: str,
    model: str,
    schema: JsonSchema,
    *,
    return_exceptions: bool,
    **provider_options: Any,
) -> list[Any]: ...
def fetch_batch_results(
    batch_id: str,
    provider: str,
    model: str,
    schema: Schema = None,
    *,
    return_exceptions: bool = False,
    **provider_options: Any,
) -> list[Any]:
    """The results of a batch by its id: see `Client.fetch_batch_results`."""
    client = _opened(provider, model, provider_options)
    return client.fetch_batch_results(batch_id, schema, return_exceptions=return_exceptions)


def _opened(provider: str, model: str, options: dict[str, Any]) -> Client:
    """The client of a function that needs none; `options` is emptied, so that no frame on the way holds a key."""
    try:
        return Client(provider, model, **options)
    finally:
        options.clear()
