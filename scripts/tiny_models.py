"""Makes checkpoints of half a megabyte, in milliseconds, that real engines load: no download, no torch.

    python scripts/tiny_models.py DIR    # DIR/random, DIR/scripted, DIR/lora

They are Llamas in Hugging Face's layout (config.json, model.safetensors, tokenizer.json) with a ChatML template, which
Transformers, vLLM and MLX read as they are. All three give the same greedy text for the same checkpoint.

Needs numpy, safetensors and tokenizers.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

Array = npt.NDArray[np.float32]
Shape = tuple[int, ...]

PAD, BOS, START, END = range(4)
SPECIAL_TOKENS = ["<|pad|>", "<|bos|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

VOCABULARY = 384
HIDDEN = 64
LAYERS = 2
# Of 32 each: the smallest that vLLM's attention on a CPU takes.
HEADS = 2
INTERMEDIATE = 128
WINDOW = 2048

SCRIPT = " one two three four five six seven eight nine ten"
# What the tokenizer learns its words from. The numbers are few tokens each, and no two share one.
CORPUS = [
    SCRIPT,
    "The quick brown fox jumps over the lazy dog. Write a haiku about oceans. Translate to Spanish: Hello",
    "You are a helpful and concise assistant. system user assistant",
    '{"name": "value", "items": [1, 2, 3], "ok": true, "none": null}',
]


def make_random(folder: str | Path, *, seed: int = 0, chat_template: bool = True, pad_token: bool = True) -> Path:
    """A model of random weights: gibberish that depends on the whole prompt. Returns the folder.

    With `chat_template=False` the tokenizer has no template, with `pad_token=False` neither the tokenizer nor the
    configuration names a token for padding.
    """
    folder, _ = _tokenizer(folder, chat_template=chat_template, pad_token=pad_token)
    # The usual 0.02 gives logits so flat that engines which round differently pick different words.
    return _write(folder, _random_weights(seed, scale=0.35), pad_token=pad_token)


def make_scripted(
    folder: str | Path, *, script: str = SCRIPT, seed: int = 0, chat_template: bool = True, pad_token: bool = True
) -> Path:
    """A model whose greedy answer is known: `script`, then the end of the turn. Returns the folder.

    The script begins after a line break, which ends the chat template, and goes on after any of its own tokens, so that
    a prompt may end within it. At temperature 1 each next token has a probability of about 0.99.
    """
    folder, tokenizer = _tokenizer(folder, chat_template=chat_template, pad_token=pad_token)
    [line_break] = tokenizer.encode("\n").ids
    chain = [line_break, *tokenizer.encode(script).ids, END]
    if len(set(chain)) < len(chain):
        raise ValueError(f"the script {script!r} repeats a token, so that what follows it is not clear")
    weights = _random_weights(seed, scale=0.1)
    # Attention and MLP add nothing: what comes out is the last token's own embedding,
    for name in weights:
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weights[name][:] = 0
    embeddings = np.random.default_rng(seed).standard_normal((VOCABULARY, HIDDEN))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    # which the head sends to the token that comes next.
    head = np.zeros((VOCABULARY, HIDDEN))
    for token, following in itertools.pairwise(chain):
        head[following] = 1.5 * embeddings[token]
    weights["model.embed_tokens.weight"] = embeddings.astype(np.float32)
    weights["lm_head.weight"] = head.astype(np.float32)
    return _write(folder, weights, pad_token=pad_token)


def make_lora(
    folder: str | Path, base: str | Path, *, seed: int = 1, rank: int = 4, targets: Sequence[str] = ("q_proj", "v_proj")
) -> Path:
    """A LoRA adapter in PEFT's layout for the checkpoint of this file at the path `base`. Returns the folder.

    Its weights are random, and large enough to change the answers of `make_random`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    weights = {}
    for name, shape in _shapes():
        module = name.removesuffix(".weight")
        if module.endswith(tuple(targets)):
            outputs, inputs = shape
            for part, part_shape in (("lora_A", (rank, inputs)), ("lora_B", (outputs, rank))):
                matrix = (0.5 * random.standard_normal(part_shape)).astype(np.float32)
                weights[f"base_model.model.{module}.{part}.weight"] = matrix
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    _write_json(
        folder / "adapter_config.json",
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": str(base),
            "r": rank,
            "lora_alpha": 2 * rank,
            "lora_dropout": 0.0,
            "target_modules": list(targets),
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
            "init_lora_weights": True,
            "modules_to_save": None,
        },
    )
    return folder


def _tokenizer(folder: str | Path, *, chat_template: bool, pad_token: bool) -> tuple[Path, Tokenizer]:
    """Trains a byte-level BPE tokenizer and writes it into `folder`, which is made."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # A pair of letters becomes a token only if it is met more than once.
    tokenizer.train_from_iterator(CORPUS * 2, trainer)
    assert tokenizer.get_vocab_size() == VOCABULARY
    tokenizer.save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": WINDOW,
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
        "bos_token": SPECIAL_TOKENS[BOS],
        "eos_token": SPECIAL_TOKENS[END],
    }
    if pad_token:
        config["pad_token"] = SPECIAL_TOKENS[PAD]
    if chat_template:
        config["chat_template"] = CHAT_TEMPLATE
    _write_json(folder / "tokenizer_config.json", config)
    return folder, tokenizer


def _shapes() -> Iterator[tuple[str, Shape]]:
    """Each tensor of the model, by its name in Hugging Face's layout: (outputs, inputs)."""
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        for projection in ("q_proj", "k_proj", "v_proj", "o_proj"):
            yield f"{at}.self_attn.{projection}.weight", (HIDDEN, HIDDEN)
        yield f"{at}.mlp.gate_proj.weight", (INTERMEDIATE, HIDDEN)
        yield f"{at}.mlp.up_proj.weight", (INTERMEDIATE, HIDDEN)
        yield f"{at}.mlp.down_proj.weight", (HIDDEN, INTERMEDIATE)
        yield f"{at}.input_layernorm.weight", (HIDDEN,)
        yield f"{at}.post_attention_layernorm.weight", (HIDDEN,)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)


def _random_weights(seed: int, *, scale: float) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    weights = {name: (scale * random.standard_normal(shape)).astype(np.float32) for name, shape in _shapes()}
    for name in weights:
        if "norm" in name:
            weights[name][:] = 1
    return weights


def _write(folder: Path, weights: dict[str, Array], *, pad_token: bool) -> Path:
    tokens = {"bos_token_id": BOS, "eos_token_id": END} | ({"pad_token_id": PAD} if pad_token else {})
    _write_json(
        folder / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": VOCABULARY,
            "hidden_size": HIDDEN,
            "intermediate_size": INTERMEDIATE,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
            "head_dim": HIDDEN // HEADS,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "max_position_embeddings": WINDOW,
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": False,
            "dtype": "float32",
            "torch_dtype": "float32",  # its name before Transformers 5
            **tokens,
        },
    )
    _write_json(folder / "generation_config.json", tokens)
    # Transformers loads no file that does not name a framework.
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/tiny_models.py DIR")
    target = Path(sys.argv[1])
    make_scripted(target / "scripted")
    make_lora(target / "lora", make_random(target / "random"))
    print(f"made {target}/random, {target}/scripted and {target}/lora")
