"""Hugging Face Transformers: a text-generation pipeline's model and tokenizer, batches padded on the left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import errors
from . import engine
from .conversation import is_stopped
from .sampling import check_count, refuse_unknown, resolved, whole

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from .._config import GenerationConfig
    from .sampling import Sampling

_OPTIONS = {"pipeline_kwargs": dict, "model_kwargs": dict, "tokenizer": object}
# The engine's own words for what a config holds.
_NAMES = {"max_new_tokens": "max_tokens"}
# What narrows the choice of a token, and with which class of the library. Beside temperature and top_p.
_WARPERS = {
    "top_k": "TopKLogitsWarper",
    "min_p": "MinPLogitsWarper",
    "typical_p": "TypicalLogitsWarper",
    "epsilon_cutoff": "EpsilonLogitsWarper",
    "eta_cutoff": "EtaLogitsWarper",
    "top_h": "TopHLogitsWarper",
}
# Parameters of `transformers.pipeline`.
_PIPELINE = (
    *("config", "feature_extractor", "image_processor", "processor", "framework", "revision", "use_fast", "token"),
    *("device", "device_map", "dtype", "trust_remote_code", "pipeline_class"),
)
# Parameters of a pipeline's call that ask for what is done anyway, each with those values.
_NO_CHANGE = {"return_full_text": (False,), "clean_up_tokenization_spaces": (False,), "num_workers": range(1000)}
# Arguments of `generate` that are no fields of its config.
_ARGUMENTS = {"logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn", "assistant_model", "synced_gpus"}
_BATCH_SIZE = 32


class Engine:
    """See `engine.Engine`.

    Options: `pipeline_kwargs` (for `transformers.pipeline`; also `batch_size`, 32, and defaults for `config.extra`),
    `model_kwargs`, `tokenizer` (an instance or an id).
    """

    options = _OPTIONS
    chunk = 512

    def __init__(self, model: str, options: Mapping[str, Any]) -> None:
        engine.require("transformers", "transformers", "torch")
        self._model_id = model
        self._pipeline_kwargs: dict[str, Any] = dict(options["pipeline_kwargs"] or {})
        self._tokenizer_id = _tokenizer(options["tokenizer"])
        inner = self._pipeline_kwargs.pop("model_kwargs", None) or {}
        outer = options["model_kwargs"] or {}
        for key in inner.keys() & outer.keys():
            if inner[key] != outer[key]:
                raise errors.ConfigurationError(
                    f'model_kwargs["{key}"] and pipeline_kwargs["model_kwargs"]["{key}"] differ; give one of them'
                )
        self._model_kwargs = {**inner, **outer}
        for key, value in (("model", model), ("tokenizer", self._tokenizer_id), ("task", "text-generation")):
            given = self._pipeline_kwargs.pop(key, None)
            if key == "tokenizer" and value is None:
                self._tokenizer_id = given
            elif given not in (None, value):
                raise errors.ConfigurationError(f'pipeline_kwargs["{key}"] is {given!r}, and {key} is {value!r}')
        if "torch_dtype" in self._pipeline_kwargs:  # the old name, which the library still takes, with a complaint
            self._pipeline_kwargs.setdefault("dtype", self._pipeline_kwargs.pop("torch_dtype"))
        # What is not about the pipeline is about its generation; the library mixes them in the same way.
        self._defaults = {key: value for key, value in self._pipeline_kwargs.items() if key not in _PIPELINE}
        for key in self._defaults:
            del self._pipeline_kwargs[key]
        self._model: Any = None

    def read(self, config: GenerationConfig) -> Sampling:
        config, extra = whole(config, _NAMES, self._defaults)
        for name, value in _NO_CHANGE.items():
            if extra.get(name) in value:
                del extra[name]
        if "max_length" in extra:
            raise errors.ConfigurationError(
                'config.extra["max_length"] counts the prompt, too; config.max_tokens says how long an answer may be'
            )
        do_sample = extra.pop("do_sample", None)
        if do_sample and config.temperature is None:
            config.temperature = 1.0
        asked = resolved(config, extra)
        if do_sample is not None and do_sample == asked.is_greedy:
            raise errors.ConfigurationError(
                f'config.extra["do_sample"] is {do_sample!r}, and temperature is {asked.temperature}; drop one of them'
            )
        for name in ("batch_size", "num_beams", "num_return_sequences"):
            check_count(asked.extra, name)
        if asked.extra.get("num_return_sequences", 1) > 1:
            raise errors.ConfigurationError(
                'config.extra["num_return_sequences"] asks for several answers; a prompt has one: give it several times'
            )
        if asked.extra.get("num_beams", 1) > 1 and not asked.is_greedy:
            raise errors.ConfigurationError('config.extra["num_beams"] is for greedy generation; drop the temperature')
        return asked._replace(stop=_stop_strings(asked.extra.pop("stop_strings", None)))

    def load(self) -> None:
        engine.import_engine("transformers", "torch")
        library = engine.import_engine("transformers", "transformers")
        with engine.random_state_kept():
            pipeline = library.pipeline(
                "text-generation",
                model=engine.model_path("transformers", self._model_id),
                tokenizer=self._tokenizer_id,
                model_kwargs=self._model_kwargs,
                **self._pipeline_kwargs,
            )
        self._library, self._model, self.tokenizer = library, pipeline.model, pipeline.tokenizer
        self._fields = {name for name in library.GenerationConfig().to_dict() if name[0] != "_"} | {"stop_strings"}
        # The model's own advice on penalties and sampling would be followed by this engine alone.
        advice = self._model.generation_config.to_dict()
        kept = {name: advice[name] for name in advice if name.endswith("_token_id") or name == "cache_implementation"}
        # A chat model's own end is often known to its tokenizer alone.
        ends = _ids(kept.get("eos_token_id")) | _ids(self.tokenizer.eos_token_id)
        kept["eos_token_id"] = sorted(ends) or None
        self._model.generation_config = library.GenerationConfig(**kept)
        self.context = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)

    def close(self) -> None:
        self._model = self.tokenizer = None
        engine.collect()

    def check(self, sampling: Sampling) -> None:
        known = self._fields | _ARGUMENTS | {"batch_size"}
        refuse_unknown("transformers", self._defaults, known | {*_PIPELINE, *_NO_CHANGE}, "pipeline_kwargs")
        refuse_unknown("transformers", sampling.extra, known)
        self._generation_config(sampling, 1).validate(strict=True)
        if not sampling.is_greedy:
            self._warpers(sampling)

    def generate(
        self, requests: Mapping[int, engine.Request], sampling: Sampling
    ) -> Generator[tuple[int, engine.Answer], None, None]:
        # Prompts of about the same length together: less padding.
        order = sorted(requests, key=lambda index: (requests[index].max_tokens, len(requests[index].tokens)))
        while order:
            most = requests[order[0]].max_tokens
            size = sampling.extra.get("batch_size", _BATCH_SIZE)
            part = [index for index in order[:size] if requests[index].max_tokens == most]
            order = order[len(part) :]
            yield from zip(part, self._batch([requests[index].tokens for index in part], most, sampling), strict=True)

    def _batch(self, prompts: list[list[int]], max_tokens: int, sampling: Sampling) -> Iterator[engine.Answer]:
        import torch

        width = max(map(len, prompts))
        pad = self._pad()
        ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        arguments = {key: value for key, value in sampling.extra.items() if key in _ARGUMENTS}
        if not sampling.is_greedy:
            processors = list(arguments.get("logits_processor") or ())
            processors.append(self._sampler(sampling, len(prompts)))
            arguments["logits_processor"] = self._library.LogitsProcessorList(processors)
        if sampling.stop:
            criteria = [*(arguments.get("stopping_criteria") or ()), self._stopper(sampling.stop, width)]
            arguments["stopping_criteria"] = self._library.StoppingCriteriaList(criteria)
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=ids.to(self._model.device),
                attention_mask=mask.to(self._model.device),
                generation_config=self._generation_config(sampling, max_tokens),
                **arguments,
            )
        ends = self._ends(sampling)
        for row in output[:, width:].tolist():
            end = next((i for i, token in enumerate(row) if token in ends), None)
            if end is not None:
                yield engine.Answer(row[: end + 1], "stop")
                continue
            while row[-1] == pad:  # it was stopped in the midst
                row.pop()
            yield engine.Answer(row, "length" if len(row) >= max_tokens else "stop")

    def _generation_config(self, sampling: Sampling, max_tokens: int) -> Any:
        own = {key: sampling.extra[key] for key in sampling.extra if key in self._fields and key not in _WARPERS}
        # Sampling is ours (see _sampler): to the library every call is greedy, and the model's defaults for sampling,
        # which it would complain of, are not asked for.
        config = self._library.GenerationConfig(max_new_tokens=max_tokens, do_sample=False, pad_token_id=self._pad())
        config.update(temperature=1.0, top_p=1.0, top_k=50, stop_strings=None)
        config.update(**own)
        return config

    def _pad(self) -> int:
        """What fills up shorter rows: not a token that ends a text, if there is another; penalties see the padding."""
        tokenizer = self.tokenizer
        pads = (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id, 0)
        known = [pad for pad in pads if pad is not None]
        return next((pad for pad in known if pad not in _ids(self._model.generation_config.eos_token_id)), known[0])

    def _ends(self, sampling: Sampling) -> set[int]:
        return _ids(sampling.extra.get("eos_token_id", self._model.generation_config.eos_token_id))

    def _stopper(self, stop: tuple[str, ...], width: int) -> Any:
        """The library's own looks for the tokens of a stop string, and takes a special token's name for one."""
        import torch

        most = max(len(one.encode()) for one in stop) + 4

        def stopped(ids: Any, _scores: Any, **_: Any) -> Any:
            rows = ids[:, max(width, ids.shape[1] - most) :].tolist()
            return torch.tensor([is_stopped(self.tokenizer, row, stop) for row in rows], device=ids.device)

        return stopped

    def _warpers(self, sampling: Sampling) -> list[Any]:
        library = self._library
        warpers = [library.TemperatureLogitsWarper(sampling.temperature)]
        for name, kind in _WARPERS.items():
            value = sampling.extra.get(name)
            if value and not (name in ("typical_p", "top_h") and value >= 1):
                warpers.append(getattr(library, kind)(value))
        if sampling.top_p < 1:
            warpers.append(library.TopPLogitsWarper(sampling.top_p))
        return warpers

    def _sampler(self, sampling: Sampling, rows: int) -> Any:
        """A processor that leaves the drawn token as the likeliest one.

        The library draws from torch's global generator, so that a text depends on its batch and a seed changes the
        caller's state. The maximum of logits plus Gumbel noise is a draw from their softmax: with a generator for each
        row the text depends on prompt and seed alone.
        """
        import torch

        warpers = self._warpers(sampling)
        generators: list[Any] = []

        def draw(ids: Any, scores: Any) -> Any:
            if not generators:
                for _ in range(1 if sampling.seed is None else rows):
                    generators.append(torch.Generator(scores.device).manual_seed(sampling.new_seed()))
            for warper in warpers:
                scores = warper(ids, scores)
            noise = torch.empty_like(scores, dtype=torch.float32)
            for part, generator in zip(noise.chunk(len(generators)), generators, strict=True):
                part.exponential_(generator=generator)
            return torch.log_softmax(scores.float(), -1) - noise.log()

        kind = type("Sampler", (self._library.LogitsProcessor,), {"__call__": lambda _, *given: draw(*given)})
        return kind()


def _ids(tokens: int | list[int] | None) -> set[int]:
    if tokens is None:
        return set()
    return {tokens} if isinstance(tokens, int) else set(tokens)


def _tokenizer(given: Any) -> Any:
    if given is None or isinstance(given, str) or callable(getattr(given, "decode", None)):
        return given
    raise errors.ConfigurationError(
        f"option tokenizer of provider 'transformers' is a {type(given).__name__}; give a tokenizer, its id or its path"
    )


def _stop_strings(value: object) -> tuple[str, ...]:
    """The library's name for `stop`."""
    stop = [value] if isinstance(value, str) else value or []
    if not isinstance(stop, (list, tuple)) or not all(isinstance(one, str) and one for one in stop):
        raise errors.ConfigurationError(f'config.extra["stop_strings"] is {value!r}; give a str or a list of str')
    return tuple(stop)
