"""What a caller may configure, checked: `GenerationConfig` and the options of a batch."""

from __future__ import annotations

from ._core import read_ids, unknown_name
from .errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

_FIELDS = ("temperature", "top_p", "max_tokens", "seed", "extra")
# What every provider knows inside `extra`.
_OF_EXTRA = ("system", "system_instruction", "stop", "conversation", "conversations")


class GenerationConfig:
    """How to generate, with one meaning on all providers. What is None is not sent.

    Args:
        temperature: Randomness, 0.0 or more.
        top_p: Nucleus sampling, 0.0 to 1.0.
        max_tokens: The most tokens to generate, 1 or more; reasoning counts into it.
        seed: For reproducible sampling. OpenAI and Anthropic have none: a warning, once a client.
        extra: `system` (str), `stop` (str or list of str), `conversation` or `conversations`, and the provider's own
            parameters by their own names.

    Raises:
        ConfigurationError: A value has the wrong type or range.
    """

    __slots__ = _FIELDS

    def __init__(
        self,
        temperature: float | None = None,
        top_p: float | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.temperature = _number("temperature", temperature, None)
        self.top_p = _number("top_p", top_p, 1)
        self.max_tokens = _integer("max_tokens", max_tokens, 1)
        self.seed = _integer("seed", seed, -(2**63))
        self.extra: dict[str, Any] = _extra(extra)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GenerationConfig):
            return NotImplemented
        return all(getattr(self, field) == getattr(other, field) for field in _FIELDS)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        given = [(field, getattr(self, field)) for field in _FIELDS]
        return f"GenerationConfig({', '.join(f'{name}={value!r}' for name, value in given if value not in (None, {}))})"


def generation_config(config: GenerationConfig | Mapping[str, Any] | None) -> GenerationConfig:
    """The checked config of a call."""
    if config is None:
        return GenerationConfig()
    if isinstance(config, GenerationConfig):
        # Its attributes may have been set since it was checked.
        return GenerationConfig(**{field: getattr(config, field) for field in _FIELDS})
    if not hasattr(config, "keys"):
        raise ConfigurationError(f"config is a {type(config).__name__}; give a dict or a GenerationConfig")
    for key in config:
        if key in _OF_EXTRA:
            raise ConfigurationError(
                f'config has no key \'{key}\' of its own; it belongs into config["extra"]["{key}"]'
            )
        if key not in _FIELDS:
            known = unknown_name("config key", str(key), list(_FIELDS))
            raise ConfigurationError(f'{known} A provider\'s own parameters go into config["extra"].')
    return GenerationConfig(**config)


class BatchOptions:
    """The `batch_options` of a batch.

    `display_name` (str): a name to find it by. `completion_window` (str): "24h" or "48h". `custom_ids` (iterable of
    distinct str, one for each input): ids instead of our own. `system` (str): the system prompt. `native` (bool): a
    job at the provider (True) or immediate calls (False); the default is the provider's own. `concurrency` (int,
    1): how many immediate calls at once.
    """

    __slots__ = ("completion_window", "concurrency", "custom_ids", "display_name", "native", "system")

    display_name: str | None
    completion_window: str | None
    system: str | None

    def __init__(self, options: Mapping[str, Any] | None) -> None:
        options = {} if options is None else options
        if not hasattr(options, "keys"):
            raise ConfigurationError(f"batch_options is a {type(options).__name__}; give a dict")
        for key in options:
            if key not in self.__slots__:
                raise ConfigurationError(unknown_name("batch option", str(key), list(self.__slots__)))
        for name in ("display_name", "completion_window", "system"):
            value = options.get(name)
            if value is not None and not isinstance(value, str):
                raise ConfigurationError(f'batch_options["{name}"] is a {type(value).__name__}; give a str')
            setattr(self, name, value)
        if self.completion_window not in (None, "24h", "48h"):
            raise ConfigurationError(
                f'batch_options["completion_window"] is {self.completion_window!r}; it must be "24h" (the one that '
                'OpenAI documents) or "48h"'
            )
        self.custom_ids: list[str] | None = _custom_ids(options.get("custom_ids"))
        self.native: bool | None = options.get("native")
        if self.native is not None and not isinstance(self.native, bool):
            raise ConfigurationError(f'batch_options["native"] is {self.native!r}; give True or False')
        concurrency = options.get("concurrency", 1)
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or not 1 <= concurrency <= 10_000:
            raise ConfigurationError(f'batch_options["concurrency"] is {concurrency!r}; give an int from 1 to 10,000')
        self.concurrency: int = concurrency


def _custom_ids(ids: Iterable[str] | None) -> list[str] | None:
    if ids is None:
        return None
    names: list[str] = read_ids(ids)
    for i, name in enumerate(names):
        if not isinstance(name, str):
            raise ConfigurationError(f'batch_options["custom_ids"][{i}] is a {type(name).__name__}; an id is a str')
    return names


def _number(name: str, value: float | None, most: float | None) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise ConfigurationError(f"config.{name} is {value!r}; give a number")
    try:
        number = float(value)
    except Exception as error:
        raise ConfigurationError(f"config.{name} is {value!r:.60}; give a number") from error
    if not 0 <= number < float("inf") or (most is not None and number > most):
        rule = "0 or more, and finite" if most is None else f"0 to {most}"
        raise ConfigurationError(f"config.{name} is {value!r}; it must be {rule}")
    # Other kinds of number (numpy's, Decimal) become the one that JSON has.
    return value if isinstance(value, (int, float)) else number


def _integer(name: str, value: int | None, least: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ConfigurationError(f"config.{name} is {value!r}; give an int")
    number = value.__index__()
    if not least <= number < 2**63:
        rule = f"{least} or more" if number < least and least > 0 else "a 64-bit int"
        raise ConfigurationError(f"config.{name} is {value!r}; it must be {rule}")
    return number


def _extra(extra: Mapping[str, Any] | None) -> dict[str, Any]:
    if extra is None:
        return {}
    if not hasattr(extra, "keys"):
        raise ConfigurationError(f"config.extra is a {type(extra).__name__}; give a dict")
    return dict(extra)
