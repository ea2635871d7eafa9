"""The walk of a prompt, and of a batch of them, through any engine."""

from __future__ import annotations

import importlib
import json
import threading
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from .._core import LocalBatch, Reply, Usage, local_prompt
from ..errors import ConfigurationError, EngineError, LLMBackendError, add_note
from . import ENGINES
from .conversation import Template, encode, read, require_template
from .engine import Request, take_options
from .sampling import common

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .._batch import ImmediateBatch
    from .._config import BatchOptions, GenerationConfig
    from .._core import Results
    from .conversation import Prompt, Text
    from .engine import Engine
    from .sampling import Sampling

_TEMPLATE_OPTIONS = {"apply_chat_template": bool, "add_generation_prompt": bool}


class LocalClient:
    """An engine behind the interface of `_core.Client`. Threads may share it; they take turns.

    Options, beside the engine's own: `apply_chat_template` (True: a prompt that is a text becomes a user's turn of the
    model's chat template; the default is to do so only where a system text stands beside it), `add_generation_prompt`
    (True: the template ends where the assistant's turn begins).
    """

    def __init__(self, provider: str, model: str, options: Mapping[str, Any]) -> None:
        module = importlib.import_module(f"{__package__}.{ENGINES[provider]}")
        taken = take_options(provider, options, {**module.Engine.options, **_TEMPLATE_OPTIONS})
        self._provider, self._model = provider, model
        self._wraps_text: bool | None = taken["apply_chat_template"]
        adds_generation_prompt = taken["add_generation_prompt"] is not False
        self._template = Template(bool(self._wraps_text), adds_generation_prompt)
        self._engine: Engine = module.Engine(model, taken)
        self._is_loaded = False
        self._lock = threading.RLock()

    def generate(self, input: object, config: GenerationConfig, schema: object) -> Reply:
        """See `Client.generate`."""
        self.refuse_schema(schema)
        sampling = self._read(config, None)
        line, stop = local_prompt(input, common(config.extra))
        sampling = sampling._replace(stop=(*sampling.stop, *stop))
        with self._loaded(sampling) as engine:
            try:
                request = self._request(json.loads(line), sampling)
                ((_, answer),) = engine.generate({0: request}, sampling)
                text = read(engine.tokenizer, request.tokens, answer, sampling.stop)
            except LLMBackendError:
                raise
            except Exception as error:
                raise self._failure(error, sampling) from error
        return Reply(text.text, text.finish_reason, _usage(request, text), self._model)

    def submit(
        self,
        inputs: Iterable[Prompt],
        config: GenerationConfig,
        schema: object,
        options: BatchOptions,
        immediate: ImmediateBatch,
    ) -> Results:
        """Answers all inputs; see `Client.submit_batch`."""
        self.refuse_schema(schema)
        if options.native:
            raise ConfigurationError(
                f'batch_options["native"] is True, and {self._provider} runs here: it has no jobs; leave it out'
            )
        sampling = self._read(config, options.system)
        batch = LocalBatch(inputs, common(config.extra), options.system, options.custom_ids, immediate.id)
        sampling = sampling._replace(stop=(*sampling.stop, *batch.stop))
        try:
            self._answer_all(batch, sampling, bool(self._wraps_text or _has_system(config, options.system)))
        except BaseException as error:
            results = batch.results()
            if results.rows:
                add_note(error, immediate.keep(results))
            raise
        return batch.results()

    def _answer_all(self, batch: LocalBatch, sampling: Sampling, needs_template: bool) -> None:
        first = 0
        while lines := batch.next(self._engine.chunk):
            with self._loaded(sampling) as engine:
                if needs_template:
                    require_template(engine.tokenizer)
                self._answer(dict(enumerate(map(json.loads, lines), first)), sampling, batch)
            first += len(lines)

    def open_batch(self, batch_id: str, schema: object) -> Any:
        raise ConfigurationError(
            f"batch {batch_id}: {self._provider} runs here and has no jobs that could be opened; its batches are done "
            "when submit_batch returns"
        )

    def redact(self, text: str) -> str:
        """As it is: an engine has no credentials."""
        return text

    def close(self) -> None:
        """Gives the model's memory back; the next prompt loads it again."""
        with self._lock:
            if self._is_loaded:
                self._is_loaded = False
                self._engine.close()

    def refuse_schema(self, schema: object) -> None:
        """See `Client.get_response`; a ConfigurationError is a ValueError."""
        if schema is not None:
            raise ConfigurationError(
                f"{self._provider} runs here, and local engines take no schema; structured outputs need openai, "
                "anthropic or gemini (or a server that speaks their wire format, by base_url)"
            )

    def _read(self, config: GenerationConfig, batch_system: str | None) -> Sampling:
        if self._wraps_text is False and _has_system(config, batch_system):
            raise ConfigurationError(
                "a system text needs the model's chat template, and apply_chat_template is False; put the text into "
                "the prompt, or leave the option out"
            )
        return self._engine.read(config)

    @contextmanager
    def _loaded(self, sampling: Sampling) -> Iterator[Engine]:
        """The engine, for one caller at a time, ready for `sampling`."""
        with self._lock:
            if not self._is_loaded:
                self._load()
            try:
                self._engine.check(sampling)
            except LLMBackendError:
                raise
            except Exception as error:
                what = f"{self._provider} refuses the config{_own(sampling)}: {type(error).__name__}: {error}"
                raise ConfigurationError(what) from error
            yield self._engine

    def _load(self) -> None:
        try:
            self._engine.load()
        except BaseException as error:
            with suppress(Exception):  # what broke the one may break the other
                self._engine.close()
            if isinstance(error, LLMBackendError) or not isinstance(error, Exception):
                raise
            raise self._failure(error) from error
        self._is_loaded = True

    def _request(self, prompt: Prompt, sampling: Sampling) -> Request:
        """A prompt's tokens, which the model must have room for, and for one more."""
        engine = self._engine
        tokens = encode(engine.tokenizer, prompt, self._template)
        room = sampling.max_tokens if engine.context is None else engine.context - len(tokens)
        if room < 1:
            raise ConfigurationError(
                f"the prompt has {len(tokens):,} tokens, and the model takes {engine.context:,} with the answer"
            )
        return Request(tokens, min(sampling.max_tokens, room))

    def _answer(self, prompts: Mapping[int, Prompt], sampling: Sampling, batch: LocalBatch) -> None:
        requests = {}
        for index, prompt in prompts.items():
            try:
                requests[index] = self._request(prompt, sampling)
            except Exception as error:
                reason = self._failure(error)
                batch.fail(index, type(reason)(f"inputs[{index}]: {reason}"))
        if requests:
            self._generate(requests, sampling, batch)

    def _generate(self, requests: dict[int, Request], sampling: Sampling, batch: LocalBatch) -> None:
        """Records an outcome for each request. Where the engine fails, the half that is to blame is looked for."""
        left = dict(requests)
        try:
            with closing(self._engine.generate(requests, sampling)) as answers:
                for index, answer in answers:
                    text = read(self._engine.tokenizer, requests[index].tokens, answer, sampling.stop)
                    batch.answer(index, text.text, text.finish_reason, _usage(requests[index], text), self._model)
                    del left[index]
        except LLMBackendError:
            raise  # not the engine's: the disk
        except Exception as error:
            if len(left) < 2:
                for index in left:
                    batch.fail(index, self._failure(error, sampling))
                return
            rest = list(left.items())
            for part in (rest[: len(rest) // 2], rest[len(rest) // 2 :]):
                self._generate(dict(part), sampling, batch)

    def _failure(self, error: Exception, sampling: Sampling | None = None) -> LLMBackendError:
        if isinstance(error, LLMBackendError):
            return error
        where = f"{self._provider} failed on model '{self._model}'{_own(sampling) if sampling else ''}"
        return EngineError(f"{where}: {type(error).__name__}: {error}")


def _has_system(config: GenerationConfig, batch_system: str | None) -> bool:
    return bool(batch_system or config.extra.get("system") or config.extra.get("system_instruction"))


def _own(sampling: Sampling) -> str:
    """The entries of `config.extra` that are the engine's own: often they are to blame for what it says."""
    entries = ", ".join(f"{key}={value!r:.80}" for key, value in sampling.extra.items())
    return f" (config.extra: {entries})" if entries else ""


def _usage(request: Request, text: Text) -> Usage:
    return Usage(input_tokens=len(request.tokens), output_tokens=text.output_tokens)
