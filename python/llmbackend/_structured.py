"""Structured outputs: the shape that an answer is asked to have, and the value it becomes."""

from __future__ import annotations

from ._core import Schema
from ._json import loads
from ._typing import Generic, T_co, overload
from .errors import ConfigurationError, InvalidOutputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from typing_extensions import TypeForm

    from ._typing import M


class StructuredOutput(Generic[T_co]):
    """The shape of an answer: a Pydantic model, or a JSON Schema.

    To type checkers a `StructuredOutput[T]`, where T is what the answer becomes: an instance of the model, what the
    parser returns, or Any.

    Args:
        schema: A JSON Schema (draft 2020-12 unless `$schema` says otherwise). The answer is a dict, a list or a scalar.
        pydantic_model: A Pydantic model class, or any type that Pydantic can validate (`list[int]`, a dataclass, a
            TypedDict). The answer is an instance of it.
        name: What the provider is told the shape is called. Default: the model's name or the schema's title.
        strict: Ask the provider to hold the model to the shape, where it can. The answer is validated either way.
        parser: Called with the validated value; what it returns is the answer.

    Raises:
        ConfigurationError: Both or neither of `schema` and `pydantic_model` are given, or one has the wrong type.
        SchemaError: The schema is wrong; the message says where.
    """

    @overload
    def __init__(
        self: StructuredOutput[Any],
        schema: Mapping[str, Any],
        pydantic_model: None = None,
        name: str | None = None,
        strict: bool = True,
        parser: None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        schema: Mapping[str, Any],
        pydantic_model: None = None,
        name: str | None = None,
        strict: bool = True,
        parser: Callable[[Any], T_co] = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        schema: None = None,
        pydantic_model: type[T_co] = ...,
        name: str | None = None,
        strict: bool = True,
        parser: None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        schema: None = None,
        pydantic_model: TypeForm[T_co] = ...,
        name: str | None = None,
        strict: bool = True,
        parser: None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        schema: None = None,
        pydantic_model: type[M] = ...,
        name: str | None = None,
        strict: bool = True,
        parser: Callable[[M], T_co] = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        schema: None = None,
        pydantic_model: TypeForm[M] = ...,
        name: str | None = None,
        strict: bool = True,
        parser: Callable[[M], T_co] = ...,
    ) -> None: ...
    def __init__(
        self,
        schema: Mapping[str, Any] | None = None,
        pydantic_model: Any = None,
        name: str | None = None,
        strict: bool = True,
        parser: Callable[[Any], Any] | None = None,
    ) -> None:
        if (schema is None) == (pydantic_model is None):
            which = "both schema and pydantic_model" if schema is not None else "neither schema nor pydantic_model"
            raise ConfigurationError(f"StructuredOutput has {which}; give exactly one")
        if schema is not None and not isinstance(schema, dict):
            raise ConfigurationError(
                f"schema is {schema!r:.80}; give a JSON Schema as a dict, or a Pydantic model as pydantic_model"
            )
        if name is not None and (not isinstance(name, str) or not name.strip()):
            raise ConfigurationError(f"name is {name!r}; give a str that is not empty")
        if not isinstance(strict, bool):
            raise ConfigurationError(f"strict is {strict!r}; give True or False")
        if parser is not None and not callable(parser):
            raise ConfigurationError(f"parser is {parser!r:.80}; give something to call with the value")
        self.schema: Mapping[str, Any] | None = schema
        self.pydantic_model: Any = pydantic_model
        self.strict: bool = strict
        self.parser: Callable[[Any], T_co] | None = parser
        self._validate_json: Callable[[str], Any] | None = None
        if schema is None:
            self._validate_json, json_schema, title = _pydantic(pydantic_model)
        else:
            json_schema, title = schema, schema.get("title")
        self.name: str = name or (title if isinstance(title, str) and title else "response")
        self._core = Schema(json_schema, self.name, strict, schema is not None)

    def __repr__(self) -> str:
        shape = f"schema={self.schema!r:.60}" if self.pydantic_model is None else f"pydantic_model={self.name}"
        return f"StructuredOutput({shape}, name={self.name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.schema, self.pydantic_model, self.name, self.strict, self.parser)

    def report(self, provider: str) -> list[dict[str, str]]:
        """What the provider cannot enforce, so that only the validation of the answer does.

        Returns:
            One dict for each such place: `path` (JSON pointer into the schema), `keyword` and `reason`. Empty if every
            answer that the provider lets through fits.

        Raises:
            SchemaError: The provider cannot take the schema at all.
        """
        names = ("path", "keyword", "reason")
        return [dict(zip(names, entry, strict=True)) for entry in self._core.report(provider)]

    def read(self, text: str) -> T_co:
        """The value in an answer's JSON text, validated, and through the parser if there is one.

        Raises:
            InvalidOutputError: The text does not fit; `.text` holds it, the message says where.
        """
        value: T_co = self._read_first([text])[1]
        return value

    def _read_first(self, texts: Sequence[str], redact: Callable[[str], str] = str) -> tuple[str, Any]:
        """The first of the texts of an answer that fits, and the value in it.

        Whatever a message quotes goes through `redact` before it is shortened: half a key would not be known again.
        """
        unfit: InvalidOutputError | None = None
        for text in texts:
            try:
                value: Any = self._json(text) if self._validate_json is None else self._model(text, redact)
            except InvalidOutputError as error:
                unfit = unfit or error
                continue
            return text, self._parse(value, text, redact)
        assert unfit is not None
        raise unfit

    def _parse(self, value: Any, text: str, redact: Callable[[str], str]) -> Any:
        if self.parser is None:
            return value
        try:
            return self.parser(value)
        except Exception as error:
            what = f"the parser did not take the answer: {type(error).__name__}: {_quote(redact(str(error)))}"
            raise InvalidOutputError(what, text=text) from error

    def _json(self, text: str) -> Any:
        try:
            return loads(text)
        except ValueError as error:
            raise InvalidOutputError(f"the answer cannot be read: {error}", text=text) from error

    def _model(self, text: str, redact: Callable[[str], str]) -> Any:
        from pydantic import ValidationError

        assert self._validate_json is not None
        try:
            return self._validate_json(text)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            places = [
                f"at '{_quote(redact('.'.join(map(str, one['loc']))), 80)}': {redact(one['msg'])}" for one in found[:10]
            ]
            message = f"the answer does not fit {_quote(self.name)}: {_quote_list(places)}"
            raise InvalidOutputError(message, text=text) from error
        except Exception as error:  # of a validator of the caller's
            what = f"{type(error).__name__}: {_quote(redact(str(error)))}"
            message = f"a validator of {_quote(self.name)} did not take the answer: {what}"
            raise InvalidOutputError(message, text=text) from error


def _quote(text: str, limit: int = 300) -> str:
    """`text` as a message quotes it: of a long one, the beginning and the end."""
    return text if len(text) <= limit else f"{text[: limit - limit // 4]} ... {text[-(limit // 4) :]}"


def _quote_list(texts: list[str], limit: int = 600) -> str:
    """Several texts as a message quotes them: as many as are worth reading."""
    quoted: list[str] = []
    for text in texts:
        if sum(map(len, quoted)) >= limit:
            return "; ".join([*quoted, "..."])
        quoted.append(_quote(text, limit // 4))
    return "; ".join(quoted)


def structured_output(schema: Any) -> StructuredOutput[Any] | None:
    """What a caller gave as `schema`: a StructuredOutput, or a type or JSON Schema to make one of."""
    if schema is None or isinstance(schema, StructuredOutput):
        return schema
    if isinstance(schema, dict):
        return StructuredOutput(schema=schema)
    from typing import get_origin  # late: it takes milliseconds

    # A type like `list[Model]`, `Model | None` or `Literal["a", "b"]` is no class; an alias (`type X = ...`), a NewType
    # and a TypeVar have no origin either.
    from_typing = type(schema).__module__ in ("typing", "typing_extensions")
    if isinstance(schema, type) or get_origin(schema) is not None or from_typing:
        return StructuredOutput(pydantic_model=schema)
    raise ConfigurationError(
        f"schema is a {type(schema).__name__}; give a StructuredOutput, a Pydantic model class (or another type, like "
        "list[Model]) or a JSON Schema dict"
    )


def _pydantic(model: Any) -> tuple[Callable[[str], Any], dict[str, Any], Any]:
    """How to validate a model from JSON, its JSON Schema and its name."""
    from pydantic import BaseModel, TypeAdapter
    from pydantic.errors import PydanticUserError

    name = getattr(model, "__name__", None) or str(model)
    try:
        if isinstance(model, type) and issubclass(model, BaseModel):
            return model.model_validate_json, model.model_json_schema(), name
        adapter: TypeAdapter[Any] = TypeAdapter(model)
        return adapter.validate_json, adapter.json_schema(), name
    except (PydanticUserError, AttributeError, TypeError, NameError) as error:
        raise ConfigurationError(
            f"pydantic_model is {model!r:.80}, of which Pydantic cannot make a JSON Schema: {error}"
        ) from error
