"""The API: a client."""

from __future__ import annotations

import os

from ._batch import Batch, ImmediateBatch, completed_batch
from ._config import BatchOptions, generation_config
from ._core import Client as _CoreClient
from ._core import Results, provider_names, unknown_name
from ._response import Response
from ._structured import structured_output
from ._typing import overload
from .errors import ConfigurationError, InvalidOutputError
from .local import ENGINES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Any, Literal, NoReturn, TypeAlias

    from typing_extensions import TypeForm

    from ._config import GenerationConfig
    from ._structured import StructuredOutput
    from ._typing import V
    from .local.client import LocalClient

    Prompt: TypeAlias = str | list[dict[str, Any]]
    Config: TypeAlias = GenerationConfig | Mapping[str, Any] | None
    BatchSettings: TypeAlias = Mapping[str, Any] | None
    JsonSchema: TypeAlias = Mapping[str, Any]
    # A class gives its instances. Older checkers know no TypeForm (`Model | None`, `Literal["a"]`), so it stands apart.
    Shape: TypeAlias = StructuredOutput[V] | type[V]
    Schema: TypeAlias = Shape[Any] | TypeForm[Any] | JsonSchema | None


class Client:
    """A provider and a model, to be asked many times. Threads may share one; a forked child may go on with it.

    Args:
        provider: "openai", "anthropic" or "gemini"; or an engine on this machine: "transformers", "vllm" or "mlx".
        model: The model's name at the provider. For an engine a repository of the Hugging Face hub, or a folder.
        options: Of a remote provider: `api_key`, `base_url` (both also from the provider's environment variables),
            `timeout` (seconds of silence before a request counts as lost; 600), `deadline` (seconds that a call may
            take with its retries; none), `max_retries` (2), `max_response_bytes` (of an answer, after decompression;
            256 MiB), `headers` (dict, added to every request; not those that frame a message), `ca_bundle` (str or
            path: a file or folder of PEM certificates, trusted instead of what this machine trusts), and the
            provider's own: `organization` and `project` for OpenAI, `auth_token` and `anthropic_version` for Anthropic,
            `api_version` for Gemini. Of an engine: `apply_chat_template` (True: each prompt is a user's turn of the
            model's chat template; the default is to use it only where a system text or a conversation needs it),
            `add_generation_prompt` (True), and its own: `pipeline_kwargs`, `model_kwargs` and `tokenizer` for
            Transformers, `llm_kwargs`, `lora_path` and `lora_name` for vLLM, `load_kwargs` for MLX.

    An engine loads its model with the first prompt, and gives the memory back on `close()`, or after `with client:`.

    Raises:
        ConfigurationError: An unknown provider or option, a value of the wrong type, or no key.
        MissingDependencyError: The engine is not installed; the message names the extra.
    """

    def __init__(self, provider: str, model: str, **options: Any) -> None:
        self.provider = provider
        self.model = model
        try:
            for name, value in (("provider", provider), ("model", model)):
                if not isinstance(value, str):
                    raise ConfigurationError(f"{name} is a {type(value).__name__}; give a str")
            for name in ("timeout", "deadline"):
                if options.get(name) == float("inf"):
                    raise ConfigurationError(f"{name} is inf; give a number of seconds, such as 86400 for a day")
            self._core = _core(provider, model, options)
        finally:
            # A traceback that shows local variables must show no key.
            options.clear()

    def __repr__(self) -> str:
        return f"Client({self.provider!r}, {self.model!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Client holds a key, and cannot be pickled or copied; make one where it is used, such as in each worker: "
            f"llmbackend.client({self.provider!r}, {self.model!r}, ...)"
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives back what the client holds: the memory of a local engine, which loads its model again if it is asked
        again. A remote client holds nothing; connections belong to the process."""
        if not isinstance(self._core, _CoreClient):
            self._core.close()

    @overload
    def get_response(self, input: Prompt, config: Config = None, schema: None = None) -> str: ...
    @overload
    def get_response(self, input: Prompt, config: Config = ..., schema: Shape[V] = ...) -> V: ...
    @overload
    def get_response(self, input: Prompt, config: Config = ..., schema: TypeForm[V] = ...) -> V: ...
    @overload
    def get_response(self, input: Prompt, config: Config = ..., schema: JsonSchema = ...) -> Any: ...
    def get_response(self, input: Prompt, config: Config = None, schema: Schema = None) -> Any:
        """One answer, now.

        Args:
            input: The prompt, or a list of `{"role": ..., "content": ...}` messages.
            config: How to generate.
            schema: The shape that the answer must have.

        Returns:
            The text as a str; with a schema the validated value.

        Raises:
            ConfigurationError: A mistake in an argument; nothing was sent.
            APIError: The provider answered with an error.
            APIConnectionError: No answer came.
            OutputError: An answer came that is none: a refusal, or not what the schema asks for.
        """
        return self.generate(input, config, schema).value

    @overload
    def generate(self, input: Prompt, config: Config = None, schema: None = None) -> Response[str]: ...
    @overload
    def generate(self, input: Prompt, config: Config = ..., schema: Shape[V] = ...) -> Response[V]: ...
    @overload
    def generate(self, input: Prompt, config: Config = ..., schema: TypeForm[V] = ...) -> Response[V]: ...
    @overload
    def generate(self, input: Prompt, config: Config = ..., schema: JsonSchema = ...) -> Response[Any]: ...
    def generate(self, input: Prompt, config: Config = None, schema: Schema = None) -> Response:
        """As `get_response`, with everything that came along: token counts, finish reason, ids."""
        shape = structured_output(schema)
        reply = self._core.generate(input, generation_config(config), None if shape is None else shape._core)
        if shape is None:
            return Response(self.provider, reply, reply.text, reply.text)
        try:
            text, value = self._read(shape, [reply.text, *reply.alternatives])
            return Response(self.provider, reply, text, value)
        except InvalidOutputError as error:
            error.finish_reason, error.usage = reply.finish_reason, reply.usage
            error.response = self._core.redact(reply.raw.decode("utf-8", "replace"))
            raise

    def _read(self, shape: StructuredOutput, texts: Sequence[str]) -> tuple[str, Any]:
        """The first of the texts that fits, and its value. An error holds no key, even if the answer quotes one."""
        quotes_key = False

        def redact(text: str) -> str:
            nonlocal quotes_key
            safe = self._core.redact(text)
            quotes_key = quotes_key or safe != text
            return safe

        try:
            return shape._read_first(texts, redact)
        except InvalidOutputError as error:
            message, text = redact(str(error)), redact(error.text or "")
            if not quotes_key:
                raise
            texts = []  # a traceback would hold them
        # Without the cause, which holds the answer as it came.
        raise InvalidOutputError(message, text=text)

    @overload
    def submit_batch(
        self, inputs: Iterable[Prompt], config: Config = None, schema: None = None, batch_options: BatchSettings = None
    ) -> Batch[str]: ...
    @overload
    def submit_batch(
        self,
        inputs: Iterable[Prompt],
        config: Config = ...,
        schema: Shape[V] = ...,
        batch_options: BatchSettings = None,
    ) -> Batch[V]: ...
    @overload
    def submit_batch(
        self,
        inputs: Iterable[Prompt],
        config: Config = ...,
        schema: TypeForm[V] = ...,
        batch_options: BatchSettings = None,
    ) -> Batch[V]: ...
    @overload
    def submit_batch(
        self,
        inputs: Iterable[Prompt],
        config: Config = ...,
        schema: JsonSchema = ...,
        batch_options: BatchSettings = None,
    ) -> Batch[Any]: ...
    def submit_batch(
        self,
        inputs: Iterable[Prompt],
        config: Config = None,
        schema: Schema = None,
        batch_options: Mapping[str, Any] | None = None,
    ) -> Batch:
        """Many prompts. On OpenAI and Gemini one job at the provider, at about half the price and within a day;
        on Anthropic one call after another, whose results are there when this returns
        (`batch_options={"native": ...}` chooses).

        Args:
            inputs: Any iterable of prompts, read once: a list, a generator, a column (of pandas, polars, numpy or
                datasets), an open text file, whose lines are prompts. An empty one makes a `CompletedBatch` without
                results. What iterates as something else (a table, a mapping) is refused; what the iterable itself
                raises is raised as it is, with a note that nothing was sent.
            config: How to generate, for all of them. `extra["conversations"]` holds one conversation for each input.
            schema: The shape that every answer must have.
            batch_options: `display_name`, `completion_window` ("24h" or "48h"), `custom_ids` (one for each input),
                `system`, `native` (True: a job at the provider; False: immediate calls), `concurrency` (of immediate
                calls; 1).

        Raises:
            ConfigurationError: A mistake in an argument or an input; nothing was sent.
            APIError: The provider refused.
            APIConnectionError: No answer came, and no job was created.
            UnknownCreateError: A job may have been created all the same: what came back does not tell, and a minute's
                search did not find it. It is not created a second time; the message says how to go on.
            KeyboardInterrupt: Ctrl-C. A note on it says what became of the job; or of immediate calls, how to get at
                the answers that had come. So does one on whatever else a handler of a signal raises.
        """
        shape = structured_output(schema)
        immediate = ImmediateBatch(self, shape)
        core = self._core.submit(
            inputs,
            generation_config(config),
            None if shape is None else shape._core,
            BatchOptions(batch_options),
            immediate,
        )
        if isinstance(core, Results):
            return immediate.completed(core)
        return Batch(self, core, shape)

    @overload
    def get_batch(self, batch_id: str, schema: None = None) -> Batch[str]: ...
    @overload
    def get_batch(self, batch_id: str, schema: Shape[V]) -> Batch[V]: ...
    @overload
    def get_batch(self, batch_id: str, schema: TypeForm[V]) -> Batch[V]: ...
    @overload
    def get_batch(self, batch_id: str, schema: JsonSchema) -> Batch[Any]: ...
    def get_batch(self, batch_id: str, schema: Schema = None) -> Batch:
        """The handle of a batch that was submitted earlier, by any process.

        Args:
            batch_id: What `batch.id` was.
            schema: The one that it was submitted with.
        """
        if not isinstance(batch_id, str):
            raise ConfigurationError(f"batch_id is a {type(batch_id).__name__}; give the str that batch.id was")
        shape = structured_output(schema)
        if not isinstance(self._core, _CoreClient):
            self._core.refuse_schema(shape)
        immediate = completed_batch(batch_id)
        if immediate is not None:
            return immediate if shape is None else immediate._read_as(shape)
        return Batch(self, self._core.open_batch(batch_id, None if shape is None else shape._core), shape)

    def get_batch_status(self, batch_id: str) -> dict[str, str]:
        """The state of a batch: `state` (normalized), `provider`, `raw_state` (in its words) and `batch_id`."""
        batch = self.get_batch(batch_id)
        state, raw_state = batch._states()
        return {"state": state, "provider": batch._client.provider, "raw_state": raw_state, "batch_id": batch.id}

    @overload
    def fetch_batch_results(
        self, batch_id: str, schema: None = None, *, return_exceptions: Literal[False] = False
    ) -> list[str]: ...
    @overload
    def fetch_batch_results(
        self, batch_id: str, schema: Shape[V], *, return_exceptions: Literal[False] = False
    ) -> list[V]: ...
    @overload
    def fetch_batch_results(
        self, batch_id: str, schema: TypeForm[V], *, return_exceptions: Literal[False] = False
    ) -> list[V]: ...
    @overload
    def fetch_batch_results(
        self, batch_id: str, schema: JsonSchema, *, return_exceptions: Literal[False] = False
    ) -> list[Any]: ...
    @overload
    def fetch_batch_results(
        self, batch_id: str, schema: None = None, *, return_exceptions: bool
    ) -> list[str | Exception]: ...
    @overload
    def fetch_batch_results(
        self, batch_id: str, schema: Shape[V], *, return_exceptions: bool
    ) -> list[V | Exception]: ...
    @overload
    def fetch_batch_results(
        self, batch_id: str, schema: TypeForm[V], *, return_exceptions: bool
    ) -> list[V | Exception]: ...
    @overload
    def fetch_batch_results(self, batch_id: str, schema: JsonSchema, *, return_exceptions: bool) -> list[Any]: ...
    def fetch_batch_results(
        self, batch_id: str, schema: Schema = None, *, return_exceptions: bool = False
    ) -> list[Any]:
        """The results of a batch that was submitted earlier, in the order of its inputs: see `Batch.results`."""
        return self.get_batch(batch_id, schema).results(return_exceptions=return_exceptions)


def _core(provider: str, model: str, options: dict[str, Any]) -> _CoreClient | LocalClient:
    if provider in ENGINES:
        from .local.client import LocalClient

        return LocalClient(provider, model, options)
    if provider not in provider_names():
        raise ConfigurationError(unknown_name("provider", provider, [*provider_names(), *ENGINES]))
    if isinstance(options.get("ca_bundle"), os.PathLike):
        options["ca_bundle"] = os.fspath(options["ca_bundle"])
    return _CoreClient(provider, model, options)
