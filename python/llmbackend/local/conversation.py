"""Prompts to tokens and tokens to text, by the model's own tokenizer and chat template."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .engine import Answer

    Prompt = str | list[dict[str, Any]]

# Tokens of the prompt before the answer that a tokenizer needs to see to keep the answer's first space.
_BEFORE = 6


class Template(NamedTuple):
    """When and how the model's chat template is used."""

    # True: also for a prompt that is a plain text. Conversations always need it.
    wraps_text: bool
    adds_generation_prompt: bool


def encode(tokenizer: Any, prompt: Prompt, template: Template) -> list[int]:
    """The tokens of a prompt.

    Raises:
        ConfigurationError: There are none, or the chat template is missing or refuses the conversation.
    """
    if isinstance(prompt, str):
        if not prompt:
            raise ConfigurationError("the prompt is empty; an engine needs at least one token")
        if not template.wraps_text:
            return list(tokenizer.encode(prompt))
        prompt = [{"role": "user", "content": prompt}]
    text = _rendered(tokenizer, [_plain(turn) for turn in prompt], template)
    # The template has put the special tokens where they belong.
    tokens = list(tokenizer.encode(text, add_special_tokens=False))
    if not tokens:
        raise ConfigurationError("the chat template made an empty text of the conversation")
    return tokens


def require_template(tokenizer: Any) -> None:
    """Refuses a tokenizer without a chat template."""
    if not getattr(tokenizer, "chat_template", None):
        _rendered(tokenizer, [{"role": "user", "content": "-"}], Template(True, True))


def _rendered(tokenizer: Any, turns: list[dict[str, Any]], template: Template) -> str:
    # An assistant's turn at the end is the beginning of the answer.
    is_begun = turns[-1]["role"] == "assistant"
    try:
        text = tokenizer.apply_chat_template(
            turns,
            tokenize=False,
            add_generation_prompt=template.adds_generation_prompt and not is_begun,
            continue_final_message=is_begun,
        )
    except Exception as error:
        if not getattr(tokenizer, "chat_template", None):
            raise ConfigurationError(
                "the model's tokenizer has no chat template, which conversations, system texts and apply_chat_template "
                "need; give the whole prompt as one text, or a model (or tokenizer) for chats"
            ) from error
        raise ConfigurationError(f"the model's chat template refuses the conversation: {error}") from error
    return str(text)


def _plain(turn: dict[str, Any]) -> dict[str, Any]:
    """`turn` with its content as one str, which is what templates of text models take."""
    content = turn["content"]
    if isinstance(content, str):
        return turn
    parts = content if isinstance(content, list) else [content]
    if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in parts):
        raise ConfigurationError(f"a turn of role '{turn['role']}' holds more than text; local engines take text only")
    return {**turn, "content": "".join(part["text"] for part in parts)}


class Text(NamedTuple):
    """An answer as the caller gets it."""

    text: str
    finish_reason: str
    output_tokens: int


def read(tokenizer: Any, prompt: list[int], answer: Answer, stop: Iterable[str]) -> Text:
    """The text of an answer to `prompt`, cut before the first of the `stop` strings."""
    if answer.text is not None:
        return Text(answer.text, answer.finish_reason, len(answer.tokens))

    def decoded(count: int) -> str:
        return decode(tokenizer, prompt, answer.tokens[:count])

    text = decoded(len(answer.tokens))
    found = [at for at in map(text.find, stop) if at >= 0]
    if not found:
        return Text(text, answer.finish_reason, len(answer.tokens))
    # An engine may go on a little after a stop string; what counts is the token that completed it.
    counts = range(len(answer.tokens) + 1)
    count = bisect_left(counts, True, key=lambda count: any(one in decoded(count) for one in stop))
    return Text(text[: min(found)], "stop", count)


def is_stopped(tokenizer: Any, tokens: list[int], stop: Iterable[str]) -> bool:
    """Whether the last of `tokens` has completed a stop string."""
    # A token has at least one byte, so that only so many can hold it.
    return any(one in decode(tokenizer, [], tokens[-len(one.encode()) - 4 :]) for one in stop)


def decode(tokenizer: Any, prompt: list[int], tokens: list[int]) -> str:
    """The text that `tokens` add to `prompt`.

    Some tokenizers drop the space before the first word of what they decode, so they get to see what stands before it.
    """
    before = prompt[-_BEFORE:]
    head = _decoded(tokenizer, before)
    whole = _decoded(tokenizer, before + tokens)
    return whole[len(head) :] if whole.startswith(head) else _decoded(tokenizer, tokens)


def _decoded(tokenizer: Any, tokens: list[int]) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
