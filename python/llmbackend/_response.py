"""What came back from a single call."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._core import Reply, Usage


class Response:
    """An answer with everything that came along.

    Attributes:
        text: What the model said; with a schema, the JSON text of the value.
        value: The answer: the text, or with a schema the validated value.
        finish_reason: "stop", "length" (cut by `max_tokens`), or the provider's own word.
        usage: Token counts; None where the server does not count.
        model: The model that answered, in the server's words.
        id: The provider's id of the response.
    """

    __slots__ = ("_reply", "finish_reason", "id", "model", "text", "usage", "value")

    def __init__(self, reply: Reply, value: Any) -> None:
        self._reply = reply
        self.value = value
        self.text: str = reply.text
        self.finish_reason: str = reply.finish_reason
        self.usage: Usage | None = reply.usage
        self.model: str | None = reply.model
        self.id: str | None = reply.id

    @property
    def raw(self) -> Any:
        """The reply's body as the provider sent it, parsed from JSON."""
        import json  # late: it takes milliseconds, and most users never need it

        return json.loads(self._reply.raw.decode("utf-8-sig", "replace"), strict=False)

    def __repr__(self) -> str:
        return f"Response(text={self.text!r:.80}, finish_reason={self.finish_reason!r}, model={self.model!r})"
