"""How to choose the next token, with one meaning on all engines."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from .._config import GenerationConfig
from .._core import unknown_name
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_TOKENS = 256
# Entries of `config.extra` that mean the same on every provider; the core reads them.
COMMON = ("system", "system_instruction", "stop", "conversation", "conversations")
_FIELDS = ("temperature", "top_p", "max_tokens", "seed")


class Sampling(NamedTuple):
    """A config, resolved: no None that means something."""

    # 0 is greedy: the likeliest token.
    temperature: float
    # 1 is off.
    top_p: float
    max_tokens: int
    # 0 or more. The same for each prompt, whose text thus does not depend on its batch. None: chance.
    seed: int | None
    stop: tuple[str, ...]
    # The engine's own parameters.
    extra: dict[str, Any]

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0

    def new_seed(self) -> int:
        """The seed, or one by chance that leaves the process's random states alone."""
        return int.from_bytes(os.urandom(7), "little") if self.seed is None else self.seed


def common(extra: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of `extra` that mean the same on every provider."""
    return {key: extra[key] for key in COMMON if key in extra}


def merged(
    config: GenerationConfig, entries: Mapping[str, Any], place: str, names: Mapping[str, str]
) -> tuple[GenerationConfig, dict[str, Any]]:
    """`config` with those `entries` that are its fields under the engine's `names`; and the other entries.

    Raises:
        ConfigurationError: An entry contradicts the config.
    """
    fields = {field: getattr(config, field) for field in _FIELDS}
    others = {}
    for key, value in entries.items():
        field = names.get(key, key)
        if field not in _FIELDS:
            others[key] = value
        elif fields[field] is None or value is None:
            fields[field] = value if fields[field] is None else fields[field]
        elif fields[field] != value:
            raise ConfigurationError(
                f'config.{field} is {fields[field]!r} and {place}["{key}"] is {value!r}; these are two names for one '
                "thing: give one of them"
            )
    return GenerationConfig(**fields), others


def whole(
    config: GenerationConfig, names: Mapping[str, str], defaults: Mapping[str, Any] | None = None
) -> tuple[GenerationConfig, dict[str, Any]]:
    """The fields of `config`, wherever they are given, and the engine's own parameters.

    Args:
        names: The engine's words for the fields.
        defaults: Entries of `extra` for what the config says nothing of.
    """
    # What is None is not asked for.
    entries = {key: _plain(value) for key, value in config.extra.items() if key not in COMMON and value is not None}
    given, extra = merged(config, entries, "config.extra", names)
    base, more = merged(GenerationConfig(), defaults or {}, "the client's options", names)
    fields = {field: getattr(base if getattr(given, field) is None else given, field) for field in _FIELDS}
    return GenerationConfig(**fields), {**more, **extra}


def _plain(value: Any) -> Any:
    """A number of numpy's, and the keys that a dict from JSON has for token ids, as the engines take them."""
    if isinstance(value, dict):
        return {int(key) if isinstance(key, str) and key.isdecimal() else key: value[key] for key in value}
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def resolved(config: GenerationConfig, extra: dict[str, Any]) -> Sampling:
    """The fields of `config`, each with its default: greedy, and with a `top_p` alone a temperature of 1."""
    temperature = config.temperature
    if temperature is None:
        temperature = 0.0 if config.top_p is None else 1.0
    return Sampling(
        # So small a one divides by nothing; it means the likeliest token.
        temperature=0.0 if temperature < 1e-5 else float(temperature),
        # The nucleus is never empty: 0 means its first token, which is the greedy one.
        top_p=1.0 if config.top_p is None else max(float(config.top_p), 1e-9),
        max_tokens=MAX_TOKENS if config.max_tokens is None else config.max_tokens,
        seed=None if config.seed is None else config.seed % 2**63,
        stop=(),
        extra=extra,
    )


def refuse_unknown(provider: str, extra: Iterable[str], known: Iterable[str], place: str = "config.extra") -> None:
    """Refuses an entry of `config.extra` (or another `place`) that the engine does not know."""
    known = sorted(known)
    for key in extra:
        if key not in known:
            raise ConfigurationError(unknown_name(f"entry of {place} for provider '{provider}':", key, known))


def check_count(extra: Mapping[str, Any], name: str) -> None:
    """Refuses an entry of `config.extra` that is no int of 1 or more."""
    value = extra.get(name, 1)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f'config.extra["{name}"] is {value!r}; give an int of 1 or more')
