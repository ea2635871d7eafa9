"""The engines are there, and the tiny models are what the other tests take them for."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import tiny_models
from transformers import AutoModelForCausalLM, AutoTokenizer

import llmbackend


@pytest.mark.parametrize("module", ["transformers", "torch", "vllm", "mlx.core", "mlx_lm"])
def test_the_engine_is_there(module: str) -> None:
    assert find_spec(module) is not None, "run `make test-engines`, which installs it"


def greedy(folder: str | Path, prompt: str, count: int = 40) -> str:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    asked = tokenizer(prompt, return_tensors="pt")
    ids = model.generate(**asked, max_new_tokens=count, do_sample=False, pad_token_id=tiny_models.PAD)
    text = tokenizer.decode(ids[0][asked["input_ids"].shape[1] :])
    assert isinstance(text, str)
    return text


def chat(folder: str, *turns: tuple[str, str]) -> str:
    messages = [{"role": role, "content": content} for role, content in turns]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert isinstance(text, str)
    return text


def test_the_scripted_model_follows_its_script(scripted_model: str) -> None:
    asked = chat(scripted_model, ("system", "Count."), ("user", "Hello"))
    assert asked == "<|im_start|>system\nCount.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert greedy(scripted_model, asked) == tiny_models.SCRIPT + "<|im_end|>"
    # Also from its middle.
    assert greedy(scripted_model, asked + " one two") == tiny_models.SCRIPT.removeprefix(" one two") + "<|im_end|>"


def test_another_script(tmp_path: Path) -> None:
    folder = tiny_models.make_scripted(tmp_path, script='{"ok": true}')
    assert greedy(folder, chat(str(folder), ("user", "Hello"))) == '{"ok": true}<|im_end|>'


def test_a_script_that_loops_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="repeats a token"):
        tiny_models.make_scripted(tmp_path, script=" one two one")


def test_the_random_model_hears_the_whole_prompt(random_model: str) -> None:
    prompts = [chat(random_model, ("system", system), ("user", "Hello")) for system in ("Be brief", "Be polite")]
    answers = [greedy(random_model, prompt, 8) for prompt in prompts]
    assert answers[0] != answers[1]
    assert answers == [greedy(random_model, prompt, 8) for prompt in prompts]


def test_what_is_left_out_is_not_there(no_template_model: str, no_pad_model: str, random_model: str) -> None:
    assert AutoTokenizer.from_pretrained(no_template_model).chat_template is None
    assert AutoTokenizer.from_pretrained(no_pad_model).pad_token is None
    assert AutoTokenizer.from_pretrained(random_model).pad_token == "<|pad|>"
    assert "pad_token_id" not in json.loads((Path(no_pad_model) / "config.json").read_text())


def test_our_extension_is_the_one_of_this_tree() -> None:
    assert Path(llmbackend.__file__).is_relative_to(Path(__file__).parents[2] / "python")
