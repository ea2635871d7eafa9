"""vLLM, in-process: a whole chunk of prompts in one `generate` call, which batches them itself."""

from __future__ import annotations

import gc
import inspect
import json
import os
import weakref
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from . import engine
from .sampling import refuse_unknown, resolved, whole

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from .._config import GenerationConfig
    from .sampling import Sampling

_OPTIONS = {"llm_kwargs": dict, "lora_path": str, "lora_name": str}
_LORA = ("lora_path", "lora_name")
# Parameters that change how it makes text of tokens; without them all engines make it in the same way.
_OWN_TEXT = ("include_stop_str_in_output", "skip_special_tokens", "spaces_between_special_tokens")
# The values that vLLM takes for the largest rank of an adapter.
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


class Engine:
    """See `engine.Engine`.

    Options: `llm_kwargs` (for `vllm.LLM`), `lora_path` (the folder of an adapter for every prompt; `config.extra` may
    name another) and `lora_name`.
    """

    options = _OPTIONS
    chunk = 1024

    def __init__(self, model: str, options: Mapping[str, Any]) -> None:
        engine.require("vllm", "vllm")
        self._model_id = model
        self._llm_kwargs = dict(options["llm_kwargs"] or {})
        if self._llm_kwargs.pop("model", model) != model:
            raise ConfigurationError('llm_kwargs["model"] is another model than the client\'s; leave it out')
        self._lora = {name: options[name] for name in _LORA if options[name] is not None}
        if "lora_name" in self._lora and "lora_path" not in self._lora:
            raise ConfigurationError("option lora_name is given, and lora_path beside it is missing")
        # The engine caches adapters by id and never looks at the path again: an id for each path, for good.
        self._lora_ids: dict[str, int] = {}
        self._llm: Any = None
        self._release: weakref.finalize[Any, Any] | None = None

    def read(self, config: GenerationConfig) -> Sampling:
        config, extra = whole(config, {})
        lora = {name: extra.pop(name) for name in _LORA if extra.get(name) is not None} or self._lora
        if "lora_path" in lora:
            extra["lora"] = self._adapter(lora["lora_path"], lora.get("lora_name"))
        elif lora:
            raise ConfigurationError('config.extra["lora_name"] is given, and "lora_path" beside it is missing')
        return resolved(config, extra)

    def _adapter(self, path: object, name: object) -> tuple[str, str, int]:
        """An adapter's name, path and rank. A path that the engine finds out to be wrong wedges it."""
        if not isinstance(path, (str, os.PathLike)) or not isinstance(name, (str, type(None))):
            raise ConfigurationError("lora_path and lora_name are each a str")
        folder = Path(path).expanduser().resolve()
        try:
            rank = int(json.loads((folder / "adapter_config.json").read_bytes())["r"])
        except OSError as error:
            raise ConfigurationError(
                f"lora_path is '{path}', and adapter_config.json cannot be read there ({error.strerror}); give the "
                "folder of a PEFT adapter"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"lora_path is '{path}', whose adapter_config.json names no rank 'r'") from error
        if rank < 1:
            raise ConfigurationError(f"lora_path is '{path}', whose adapter_config.json has the rank {rank}")
        if not any(folder.glob("adapter_model.*")):
            raise ConfigurationError(f"lora_path is '{path}', and no adapter_model.safetensors is there")
        return name or folder.name, str(folder), rank

    def load(self) -> None:
        # A second process for the engine would import the caller's script again, and die if that has no main guard.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        library = engine.import_engine("vllm", "vllm")
        kwargs = dict(self._llm_kwargs)
        if self._lora:
            rank = self._adapter(self._lora["lora_path"], None)[2]
            kwargs.setdefault("enable_lora", True)
            kwargs.setdefault("max_lora_rank", next((most for most in _RANKS if rank <= most), rank))
        with engine.random_state_kept():
            self._llm = library.LLM(model=engine.model_path("vllm", self._model_id), **kwargs)
        self._release = weakref.finalize(self, _release, self._llm.llm_engine.engine_core)
        self._release.atexit = False  # the engine has its own for that
        self._library, self.tokenizer = library, self._llm.get_tokenizer()
        self.context = self._llm.llm_engine.model_config.max_model_len

    def close(self) -> None:
        self._llm = self.tokenizer = None
        if self._release is not None:
            self._release()
        engine.collect()

    def check(self, sampling: Sampling) -> None:
        self._params(sampling, sampling.max_tokens)
        lora = sampling.extra.get("lora")
        if lora is None:
            return
        config = self._llm.llm_engine.vllm_config.lora_config
        if config is None:
            raise ConfigurationError(
                "lora_path is given in config.extra, and the engine was loaded without adapters; make the client with "
                'lora_path, or with llm_kwargs={"enable_lora": True}'
            )
        if lora[2] > config.max_lora_rank:
            raise ConfigurationError(
                f"the adapter in {lora[1]} has rank {lora[2]}, and the engine takes {config.max_lora_rank}; make the "
                f'client with llm_kwargs={{"max_lora_rank": {lora[2]}}}'
            )

    def _params(self, sampling: Sampling, max_tokens: int) -> Any:
        own = {key: value for key, value in sampling.extra.items() if key != "lora"}
        if own.get("n", 1) != 1:
            raise ConfigurationError(f'config.extra["n"] is {own["n"]!r}; a prompt has one answer, so give it n times')
        known = inspect.signature(self._library.SamplingParams).parameters
        refuse_unknown("vllm", own, [name for name in known if not name.startswith("_")])
        if isinstance(own.get("structured_outputs"), dict):
            from vllm.sampling_params import StructuredOutputsParams

            own["structured_outputs"] = StructuredOutputsParams(**own["structured_outputs"])
        return self._library.SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=max_tokens,
            seed=sampling.seed,
            stop=list(sampling.stop) or None,
            **own,
        )

    def generate(
        self, requests: Mapping[int, engine.Request], sampling: Sampling
    ) -> Generator[tuple[int, engine.Answer], None, None]:
        keeps_text = any(key in sampling.extra for key in _OWN_TEXT)
        for part in self._calls(requests, sampling):
            for index, output in zip(part, self._outputs([requests[index] for index in part], sampling), strict=True):
                answer = output.outputs[0]
                finish = "length" if answer.finish_reason == "length" else "stop"
                yield index, engine.Answer(list(answer.token_ids), finish, answer.text if keeps_text else None)

    def _calls(self, requests: Mapping[int, engine.Request], sampling: Sampling) -> Iterator[list[int]]:
        """The requests of each `generate` call, which is one.

        On a CPU, seeded requests are several: where a step has no room for a whole prompt the engine wants to set the
        prompt's generator back, which those of a CPU refuse.
        """
        config = self._llm.llm_engine.vllm_config
        if sampling.seed is None or config.device_config.device_type != "cpu":
            yield list(requests)
            return
        budget = config.scheduler_config.max_num_batched_tokens - config.scheduler_config.max_num_seqs
        part: list[int] = []
        room = budget
        for index, request in requests.items():
            if part and len(request.tokens) > room:
                yield part
                part, room = [], budget
            part.append(index)
            room -= len(request.tokens)
        yield part

    def _outputs(self, requests: list[engine.Request], sampling: Sampling) -> list[Any]:
        prompts = [self._library.TokensPrompt(prompt_token_ids=request.tokens) for request in requests]
        params = [self._params(sampling, request.max_tokens) for request in requests]
        lora = self._lora_request(sampling)
        try:
            with nullcontext() if sampling.is_greedy else _own_torch_state(sampling):
                outputs: list[Any] = self._llm.generate(prompts, params, use_tqdm=False, lora_request=lora)
        except BaseException:
            # What is still queued would be answered, or would hang, with the next call.
            core = self._llm.llm_engine
            core.abort_request(list(core.output_processor.request_states), internal=True)
            raise
        return outputs

    def _lora_request(self, sampling: Sampling) -> Any:
        if "lora" not in sampling.extra:
            return None
        from vllm.lora.request import LoRARequest

        name, path, _rank = sampling.extra["lora"]
        return LoRARequest(name, self._lora_ids.setdefault(path, len(self._lora_ids) + 1), path)


@contextmanager
def _own_torch_state(sampling: Sampling) -> Iterator[None]:
    """The engine draws from torch's global state, which is the caller's: it gets one of its own."""
    torch = engine.import_engine("vllm", "torch")
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_initialized() else []):
        torch.manual_seed(sampling.new_seed())
        yield


def _release(client: Any) -> None:
    """Gives an engine's memory back, as its own shutdown does. That one also ends what all engines of this process
    share (torch's process group), whereupon the others fail, and it runs as soon as an engine is forgotten."""
    core = getattr(client, "engine_core", None)
    if core is None:  # the engine is a process of its own
        client.shutdown()
        return
    if finalizer := getattr(client, "_finalizer", None):
        finalizer.detach()
    core.structured_output_manager.clear_backend()
    core.model_executor.shutdown()
    core.scheduler.shutdown()
    gc.unfreeze()  # it was frozen when the engine was made
