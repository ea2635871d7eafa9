"""Chat templates: conversations, system texts, and prompts that are put into one."""

from __future__ import annotations

from typing import Any

import pytest
import small
import tiny_models
from small import told

import llmbackend

TURNS = [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hello"}]
TEMPLATED = "<|im_start|>system\nBe brief<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
LIMIT = {"max_tokens": 16}


def with_extra(**extra: Any) -> dict[str, Any]:
    return {**LIMIT, "extra": extra}


def test_every_way_to_say_the_same(random_client: llmbackend.Client) -> None:
    """The template, written out as a plain prompt, is the judge of all other ways."""
    expected = told(random_client.generate(TEMPLATED, LIMIT))
    parts = [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
    ]
    for prompt, config in [
        ("Hello", with_extra(system="Be brief")),
        ("Hello", with_extra(system_instruction="Be brief")),
        ("Hello", with_extra(system="Be brief", system_instruction="Be brief")),
        (TURNS, LIMIT),
        (parts, LIMIT),
        (TURNS[1:], with_extra(system="Be brief")),
        ("irrelevant", with_extra(conversation=TURNS)),
        ("irrelevant", with_extra(conversation=TURNS[1:], system="Be brief")),
    ]:
        assert told(random_client.generate(prompt, config)) == expected, (prompt, config)
    for prompts, config, options in [
        (["Hello"], with_extra(system="Be brief"), {}),
        (["Hello"], LIMIT, {"system": "Be brief"}),
        ([TURNS], LIMIT, {}),
        (["irrelevant"], with_extra(conversations=[TURNS]), {}),
        (["irrelevant"], with_extra(conversations=[TURNS[1:]], system="Be brief"), {}),
    ]:
        assert [told(item) for item in random_client.submit_batch(prompts, config, batch_options=options).items()] == [
            expected
        ], (prompts, config)


def test_a_batch_of_conversations_has_one_for_each_input(random_client: llmbackend.Client) -> None:
    conversations = [[{"role": "user", "content": f"Prompt {n}"}] for n in range(5)]
    alone = [random_client.get_response("-", with_extra(conversation=turns)) for turns in conversations]
    assert random_client.submit_batch(["-"] * 5, with_extra(conversations=conversations)).results() == alone
    assert len(set(alone)) == 5
    with pytest.raises(llmbackend.ConfigurationError, match="conversations"):
        random_client.submit_batch(["-"] * 4, with_extra(conversations=conversations))
    with pytest.raises(llmbackend.ConfigurationError, match="conversations"):
        random_client.get_response("-", with_extra(conversations=conversations))
    with pytest.raises(llmbackend.ConfigurationError, match="single call"):
        random_client.submit_batch(["-"], with_extra(conversation=conversations[0]))


def test_apply_chat_template(clients: small.Clients, provider: str, random_model: str) -> None:
    wrapping = clients.of(provider, random_model, apply_chat_template=True)
    plain = clients.of(provider, random_model)
    turns = [{"role": "user", "content": "Hello"}]
    expected = plain.get_response(turns, LIMIT)
    assert wrapping.get_response("Hello", LIMIT) == expected == wrapping.get_response(turns, LIMIT)
    assert wrapping.submit_batch(["Hello"], LIMIT).results() == [expected]
    assert plain.get_response("Hello", LIMIT) != expected
    assert wrapping.get_response("Hello", with_extra(system="Be brief")) == plain.get_response(TURNS, LIMIT)


def test_without_the_generation_prompt(clients: small.Clients, provider: str, random_model: str) -> None:
    """A conversation that ends where the user's turn ends."""
    bare = clients.of(provider, random_model, apply_chat_template=True, add_generation_prompt=False)
    plain = clients.of(provider, random_model)
    text = "<|im_start|>user\nHello<|im_end|>\n"
    assert told(bare.generate("Hello", LIMIT)) == told(plain.generate(text, LIMIT))
    told_yes = clients.of(provider, random_model, apply_chat_template=True, add_generation_prompt=True)
    assert told(told_yes.generate("Hello", LIMIT)) == told(plain.generate(text + "<|im_start|>assistant\n", LIMIT))


def test_a_begun_answer_is_gone_on_with(chat_client: llmbackend.Client) -> None:
    turns = [{"role": "user", "content": "Count"}, {"role": "assistant", "content": " one two"}]
    rest = tiny_models.SCRIPT.removeprefix(" one two")
    assert chat_client.get_response(turns) == rest
    assert chat_client.submit_batch([turns, "Count"]).results() == [rest, tiny_models.SCRIPT]
    assert chat_client.get_response("-", {"extra": {"conversation": turns, "system": "Be brief"}}) == rest


def test_a_system_text_without_its_template_is_an_error(
    clients: small.Clients, provider: str, random_model: str
) -> None:
    client = clients.of(provider, random_model, apply_chat_template=False)
    for ask in (
        lambda: client.get_response("Hello", with_extra(system="Be brief")),
        lambda: client.submit_batch(["Hello"], with_extra(system_instruction="Be brief")),
        lambda: client.submit_batch(["Hello"], batch_options={"system": "Be brief"}),
    ):
        with pytest.raises(llmbackend.ConfigurationError, match="apply_chat_template is False"):
            ask()
    assert client.get_response("Hello", LIMIT)


@pytest.mark.parametrize(
    ("prompt", "config", "options"),
    [
        (TURNS, LIMIT, {}),
        ("Hello", with_extra(system="Be brief"), {}),
        ("Hello", LIMIT, {"apply_chat_template": True}),
    ],
)
def test_a_missing_template_is_named(
    clients: small.Clients, provider: str, no_template_model: str, prompt: Any, config: Any, options: Any
) -> None:
    client = clients.of(provider, no_template_model, **options)
    with pytest.raises(llmbackend.ConfigurationError, match="no chat template"):
        client.get_response(prompt, config)
    if prompt is TURNS:
        (item,) = client.submit_batch([prompt], config).items()
        assert isinstance(item.error, llmbackend.ConfigurationError) and "no chat template" in str(item.error)
    else:  # each of them would fail
        with pytest.raises(llmbackend.ConfigurationError, match="no chat template"):
            client.submit_batch([prompt], config)
    assert clients.of(provider, no_template_model).get_response("Hello", LIMIT)


def test_two_system_texts_are_an_error(random_client: llmbackend.Client) -> None:
    for config in (with_extra(system="a", system_instruction="b"), with_extra(conversation=TURNS, system="Be polite")):
        with pytest.raises(llmbackend.ConfigurationError, match=r"another|different"):
            random_client.get_response("Hello", config)


def test_no_token_for_padding(clients: small.Clients, provider: str, no_pad_model: str, random_model: str) -> None:
    prompts = small.prompts(9)
    padded = clients.of(provider, random_model).submit_batch(prompts, LIMIT).results()
    assert clients.of(provider, no_pad_model).submit_batch(prompts, LIMIT).results() == padded


def test_pictures_are_refused(random_client: llmbackend.Client) -> None:
    turns = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}]
    with pytest.raises(llmbackend.ConfigurationError, match="more than text"):
        random_client.get_response(turns)
