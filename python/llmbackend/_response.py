"""What came back from a single call."""

from __future__ import annotations

from ._json import loads
from ._typing import Generic, T_co
from .errors import ConfigurationError, MissingDependencyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._core import Reply, Usage


class Response(Generic[T_co]):
    """An answer with everything that came along. To type checkers a `Response[T]`, where T is what `value` is.

    Attributes:
        text: What the model said; with a schema, the JSON text of the value.
        value: The answer: the text, or with a schema the validated value.
        finish_reason: "stop", "length" (cut by `max_tokens`), or the provider's own word.
        usage: Token counts; None where the server does not count.
        model: The model that answered, in the server's words.
        id: The provider's id of the response.
    """

    __slots__ = ("_provider", "_reply", "finish_reason", "id", "model", "text", "usage", "value")

    def __init__(self, provider: str, reply: Reply, text: str, value: T_co) -> None:
        self._provider = provider
        self._reply = reply
        self.value: T_co = value
        self.text: str = text
        self.finish_reason: str = reply.finish_reason
        self.usage: Usage | None = reply.usage
        self.model: str | None = reply.model
        self.id: str | None = reply.id

    @property
    def raw(self) -> Any:
        """The reply's body as the provider sent it, parsed from JSON. Integers are exact (a `Decimal` where they
        have more than 100,000 digits)."""
        try:
            return loads(self._reply.raw.decode("utf-8-sig", "replace"))
        except ValueError:
            return loads(self._reply.repaired())

    def to_sdk(self) -> Any:
        """The reply as the vendor SDK's own typed object.

        Returns:
            `openai.types.responses.Response`, `anthropic.types.Message`, or for Gemini `GenerateContentResponse` of
            google-genai, else of google-generativeai.

        Raises:
            MissingDependencyError: The SDK is not installed; the message names the extra.
            ConfigurationError: The answer is a local engine's, which has no SDK.
        """
        if self._provider not in _TO_SDK:
            raise ConfigurationError(f"to_sdk() is for remote providers; {self._provider} runs here and has no SDK")
        raw = loads(self._reply.repaired())
        while isinstance(raw, list) and raw:  # Google wraps a reply into a list now and then
            raw = raw[0]
        return _TO_SDK[self._provider](raw)

    def __repr__(self) -> str:
        return f"Response(text={self.text!r:.80}, finish_reason={self.finish_reason!r:.80}, model={self.model!r:.80})"


def _openai(raw: Any) -> Any:
    try:
        from openai.types.responses import Response as OpenAIResponse
    except ImportError as error:
        raise _missing("openai", "openai") from error
    # As the SDK itself reads replies: without validation, so that new fields and values do no harm.
    return OpenAIResponse.construct(**raw)


def _anthropic(raw: Any) -> Any:
    try:
        from anthropic.types import Message
    except ImportError as error:
        raise _missing("anthropic", "anthropic") from error
    return Message.construct(**raw)


def _gemini(raw: Any) -> Any:
    try:
        from google.genai.types import GenerateContentResponse
    except ImportError:
        return _generativeai(raw)
    from pydantic import ValidationError

    while True:
        try:
            return GenerateContentResponse.model_validate(raw)
        except ValidationError as error:
            # The SDK's models forbid what they do not know, and the server is ahead of them. What they cannot
            # read, like a signature that is not base64, is left out as well: the rest of the reply is worth more.
            if not _leave_out(raw, [one["loc"] for one in error.errors()]):
                raise


def _leave_out(raw: Any, places: list[tuple[Any, ...]]) -> bool:
    """Deletes what stands at `places`, the last first, so that the others stay in place; whether there was any."""
    found: dict[tuple[Any, ...], Any] = {}
    for place in places:
        path: list[Any] = []
        holder: Any = None
        value = raw
        for step in place:
            # A place also names the branches of unions, which are in no reply.
            if (isinstance(value, dict) and step in value) or (isinstance(value, list) and isinstance(step, int)):
                path.append(step)
                holder, value = value, value[step]
        if path:
            found[tuple(path)] = holder
    for keys, holder in reversed(found.items()):
        del holder[keys[-1]]
    return bool(found)


def _generativeai(raw: Any) -> Any:
    try:
        from google.ai.generativelanguage import GenerateContentResponse as Proto
        from google.generativeai.types import GenerateContentResponse
    except ImportError as error:
        raise _missing("google-genai", "google-genai") from error
    import json

    return GenerateContentResponse.from_response(Proto.from_json(json.dumps(raw), ignore_unknown_fields=True))


def _missing(package: str, extra: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"to_sdk() needs the package {package}: pip install llmbackend[{extra}]", name=package
    )


_TO_SDK = {"openai": _openai, "anthropic": _anthropic, "gemini": _gemini}
