"""MLX, by mlx-lm's batch generator: rows of any length, each with its own sampler."""

from __future__ import annotations

import inspect
import os
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from .._core import unknown_name
from ..errors import ConfigurationError
from . import engine
from .conversation import is_stopped
from .sampling import check_count, merged, refuse_unknown, resolved, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from .._config import GenerationConfig
    from .sampling import Sampling

_OPTIONS = {"load_kwargs": dict}
# The engine's own words for what a config holds.
_NAMES = {"temp": "temperature"}
# Parameters of mlx-lm's make_sampler beside temperature and top_p, with their least and most.
_SAMPLER = {
    "min_p": (0, 1),
    "min_tokens_to_keep": (1, None),
    "top_k": (0, None),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 0.5),
    "xtc_special_tokens": None,
}
# Parameters of mlx-lm's BatchGenerator.
_GENERATOR = ("completion_batch_size", "prefill_batch_size", "prefill_step_size", "max_kv_size")


class Engine:
    """See `engine.Engine`. Options: `load_kwargs`, for `mlx_lm.load`."""

    options = _OPTIONS
    chunk = 256

    def __init__(self, model: str, options: Mapping[str, Any]) -> None:
        engine.require("mlx", "mlx_lm", "mlx.core")
        self._model_id = model
        self._load_kwargs = dict(options["load_kwargs"] or {})
        if self._load_kwargs.pop("path_or_hf_repo", model) != model:
            raise ConfigurationError('load_kwargs["path_or_hf_repo"] is another model than the client\'s; leave it out')
        self._model: Any = None

    def read(self, config: GenerationConfig) -> Sampling:
        config, extra = whole(config, _NAMES)
        for name in _GENERATOR:
            check_count(extra, name)
        sampler = extra.pop("sampler", None)
        if callable(sampler):
            for name in ("temperature", "top_p", "seed"):
                if getattr(config, name) is not None:
                    raise ConfigurationError(
                        f'config.extra["sampler"] is a function, which config.{name} cannot change; drop one'
                    )
            return resolved(config, {**extra, "sampler": sampler})
        if sampler is None:
            return resolved(config, _checked(extra, "config.extra"))
        if not isinstance(sampler, dict):
            kind = type(sampler).__name__
            raise ConfigurationError(
                f'config.extra["sampler"] is a {kind}; give a dict like {{"temp": 0.7, "top_p": 0.9}}, or a function'
            )
        place = 'config.extra["sampler"]'
        config, others = merged(config, sampler, place, _NAMES)
        for key in others:
            if key not in _SAMPLER:
                raise ConfigurationError(unknown_name(f"entry of {place}", key, ["temp", "top_p", *_SAMPLER]))
            if key in extra and extra[key] != others[key]:
                raise ConfigurationError(
                    f'config.extra["{key}"] is {extra[key]!r} and {place}["{key}"] is {others[key]!r}; give one of them'
                )
        return resolved(config, _checked({**extra, **_checked(others, place)}, "config.extra"))

    def load(self) -> None:
        library = engine.import_engine("mlx", "mlx_lm")
        path = engine.model_path("mlx", self._model_id)
        with engine.random_state_kept(), _random_state_kept():
            self._model, self.tokenizer = library.load(path, **self._load_kwargs)[:2]
        self.context = getattr(self._model.args, "max_position_embeddings", None)

    def close(self) -> None:
        self._model = self.tokenizer = None
        engine.collect()

    def check(self, sampling: Sampling) -> None:
        from mlx_lm.sample_utils import make_logits_processors

        processors = inspect.signature(make_logits_processors).parameters
        known = {*_SAMPLER, *_GENERATOR, *processors, "logits_processors", "sampler"}
        refuse_unknown("mlx", sampling.extra, known)
        self._processors(sampling)
        # Found out inside a compiled sampler it would break the engine's random state for good.
        vocabulary = self.tokenizer.vocab_size
        for name in ("top_k", "min_tokens_to_keep"):
            if (sampling.extra.get(name) or 0) >= vocabulary:
                raise ConfigurationError(f"{name} is {sampling.extra[name]}; the model has {vocabulary} tokens")

    def generate(
        self, requests: Mapping[int, engine.Request], sampling: Sampling
    ) -> Generator[tuple[int, engine.Answer], None, None]:
        from mlx_lm.generate import BatchGenerator

        rows = list(requests.items())
        generator = BatchGenerator(
            self._model,
            stop_tokens=[[token] for token in self.tokenizer.eos_token_ids],
            **{name: sampling.extra[name] for name in _GENERATOR if name in sampling.extra},
        )
        try:
            uids = generator.insert(
                [request.tokens for _, request in rows],
                [request.max_tokens for _, request in rows],
                samplers=self._samplers(sampling, len(rows)),
                logits_processors=[self._processors(sampling)] * len(rows),
            )
            row_of = dict(zip(uids, rows, strict=True))
            tokens: dict[int, list[int]] = {uid: [] for uid in uids}
            while responses := generator.next_generated():
                for response in responses:
                    uid = response.uid
                    if uid not in tokens:
                        continue  # on its way when the row was removed
                    tokens[uid].append(response.token)
                    finish = response.finish_reason
                    if finish is None and is_stopped(self.tokenizer, tokens[uid], sampling.stop):
                        generator.remove([uid])
                        finish = "stop"
                    if finish is not None:
                        yield row_of[uid][0], engine.Answer(tokens.pop(uid), finish)
        except Exception:
            _mend_random_state()
            raise
        finally:
            generator.close()

    def _processors(self, sampling: Sampling) -> list[Any]:
        from mlx_lm.sample_utils import make_logits_processors

        known = inspect.signature(make_logits_processors).parameters
        made = make_logits_processors(**{key: sampling.extra[key] for key in known if key in sampling.extra})
        return [*made, *(sampling.extra.get("logits_processors") or ())]

    def _samplers(self, sampling: Sampling, rows: int) -> list[Any]:
        """A sampler for each row: of its own where there is a seed, so that a text depends on prompt and seed alone."""
        own = sampling.extra.get("sampler")
        if own is not None:
            return [own] * rows
        if sampling.is_greedy:
            return [None] * rows
        if sampling.seed is None:
            return [self._sampler(sampling)] * rows
        return [self._sampler(sampling) for _ in range(rows)]

    def _sampler(self, sampling: Sampling) -> Callable[[Any], Any]:
        # mlx-lm's own draws from a global state, and cuts the tail of the distribution before the temperature.
        import mlx.core as mx
        from mlx_lm import sample_utils as library

        extra = sampling.extra
        steps: list[Callable[[Any], Any]] = []
        if top_k := extra.get("top_k"):
            steps.append(partial(library.apply_top_k, top_k=top_k))
        if sampling.top_p < 1:
            steps.append(partial(library.apply_top_p, top_p=sampling.top_p))
        if min_p := extra.get("min_p"):
            steps.append(
                partial(library.apply_min_p, min_p=min_p, min_tokens_to_keep=extra.get("min_tokens_to_keep", 1))
            )
        key = mx.random.key(sampling.new_seed())

        def new_key() -> Any:
            nonlocal key
            key, now = mx.random.split(key)
            return now

        if probability := extra.get("xtc_probability"):
            keeps, threshold = extra.get("xtc_special_tokens") or [], extra.get("xtc_threshold", 0.1)
            steps.append(lambda logprobs: _xtc(logprobs, probability, threshold, keeps, new_key()))

        def sample(logprobs: Any) -> Any:
            logprobs = logprobs * (1 / sampling.temperature)
            logprobs = logprobs - mx.logsumexp(logprobs, axis=-1, keepdims=True)
            for step in steps:
                logprobs = step(logprobs)
            return mx.random.categorical(logprobs, key=new_key())

        return sample


def _mend_random_state() -> None:
    """An exception inside a compiled function leaves the global random state, and all that needs it, broken."""
    import mlx.core as mx

    try:
        mx.eval(mx.random.state)
    except Exception:
        mx.random.seed(int.from_bytes(os.urandom(7), "little"))


@contextmanager
def _random_state_kept() -> Iterator[None]:
    import mlx.core as mx

    _mend_random_state()
    high, low = mx.random.state[0].tolist()  # which is how a seed is kept
    try:
        yield
    finally:
        mx.random.seed(high << 32 | low)


def _xtc(logprobs: Any, probability: float, threshold: float, keeps: list[int], key: Any) -> Any:
    """Now and then without the likeliest tokens: of those over the threshold only the least likely stays.

    As mlx-lm's, which draws from the global state.
    """
    import mlx.core as mx

    chances = mx.softmax(logprobs, -1)
    least = mx.where(chances > threshold, chances, mx.inf).min(axis=-1, keepdims=True)
    excluded = chances > least
    if keeps:
        excluded[..., mx.array(keeps)] = False
    excluded = excluded & (mx.random.uniform(key=key) < probability)
    return mx.where(excluded, -mx.inf, logprobs)


def _checked(extra: dict[str, Any], place: str) -> dict[str, Any]:
    """`extra`, its parameters of the sampler in their range: mlx-lm takes any value and then makes no sense."""
    for name, bounds in _SAMPLER.items():
        value = extra.get(name)
        if value is None:
            continue
        if bounds is None:
            if not isinstance(value, (list, tuple)) or not all(isinstance(token, int) for token in value):
                raise ConfigurationError(f'{place}["{name}"] is {value!r}; give a list of token ids')
            continue
        least, most = bounds
        is_number = isinstance(value, (int, float) if isinstance(most, (int, float)) else int)
        if not is_number or isinstance(value, bool) or not least <= value <= (value if most is None else most):
            rule = f"{least} or more" if most is None else f"{least} to {most}"
            raise ConfigurationError(f'{place}["{name}"] is {value!r}; it must be {rule}')
    return extra
