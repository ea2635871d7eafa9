"""Measures how much a batch gains on each local engine over one prompt after another, and what our API costs over the
engine's own. benches/README.md says how to read it.

  make bench-engines
  make bench-engines ARGS='--engines mlx --rounds 21'
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

# Before an engine is imported. With more threads than free cores its threads spin, and the machine's load is measured.
os.environ |= {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
os.environ |= {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}

import tiny_models

import llmbackend

Texts = list[str]
# From prompts to their answers.
Way = Callable[[Texts], Texts]

# float32, since in bfloat16 a batch rounds differently and goes another way than a single prompt.
VLLM = {"dtype": "float32", "enforce_eager": True, "max_model_len": 512, "kv_cache_memory_bytes": 64 << 20}


def make_prompts(count: int) -> Texts:
    # Of different lengths, as real ones are: a batch has to be padded.
    return [f"Translate to Spanish: Hello{' quick brown fox' * (i % 8)} {i}" for i in range(count)]


# The engines without us, as one writes it who knows them well.


def transformers_itself(folder: str, tokens: int, batch_size: int) -> Way:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    config = GenerationConfig(max_new_tokens=tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id)

    def generate(prompts: Texts) -> Texts:
        answers: Texts = []
        for first in range(0, len(prompts), batch_size):
            part = tokenizer(
                prompts[first : first + batch_size], padding=True, padding_side="left", return_tensors="pt"
            )
            with torch.inference_mode():
                ids = model.generate(**part, generation_config=config)
            answers += tokenizer.batch_decode(ids[:, part["input_ids"].shape[1] :], skip_special_tokens=True)
        return answers

    return generate


def vllm_itself(folder: str, tokens: int, batch_size: int) -> Way:
    import vllm

    engine = vllm.LLM(model=folder, **VLLM)
    params = vllm.SamplingParams(temperature=0, max_tokens=tokens)
    return lambda prompts: [answer.outputs[0].text for answer in engine.generate(prompts, params, use_tqdm=False)]


def mlx_itself(folder: str, tokens: int, batch_size: int) -> Way:
    from mlx_lm import batch_generate, load

    model, tokenizer = load(folder)[:2]

    def generate(prompts: Texts) -> Texts:
        ids = [tokenizer.encode(prompt) for prompt in prompts]
        sizes = {"max_tokens": tokens, "completion_batch_size": batch_size}
        answers: Texts = batch_generate(model, tokenizer, ids, **sizes).texts
        return answers

    return generate


# Engine -> the engine itself, and what a client takes to do the same work: its options, and `config.extra`.
Settings = tuple[dict[str, Any], dict[str, Any]]
ENGINES: dict[str, tuple[Callable[[str, int, int], Way], Callable[[int], Settings]]] = {
    "transformers": (transformers_itself, lambda batch_size: ({"pipeline_kwargs": {"batch_size": batch_size}}, {})),
    # It decides by itself how many run at once.
    "vllm": (vllm_itself, lambda batch_size: ({"llm_kwargs": VLLM}, {})),
    "mlx": (mlx_itself, lambda batch_size: ({}, {"completion_batch_size": batch_size})),
}


def bench(engine: str, folder: str, options: argparse.Namespace) -> str:
    """Measures an engine; its line of the table."""
    make_itself, settings = ENGINES[engine]
    client_options, extra = settings(options.batch_size)
    prompts = make_prompts(options.prompts)
    with llmbackend.client(engine, folder, **client_options) as client:
        config = {"temperature": 0, "max_tokens": options.tokens}
        batch_config = {**config, "extra": extra}
        ways: dict[str, Way] = {
            "one by one": lambda prompts: [client.get_response(prompt, config) for prompt in prompts],
            "batch": lambda prompts: client.submit_batch(prompts, batch_config).results(),
            "itself": make_itself(folder, options.tokens, options.batch_size),
        }
        # This warms all three up, and shows that they do the same work.
        single, batch, itself = (way(prompts) for way in ways.values())
        if batch != single:
            raise SystemExit(f"{engine}: the texts of the batch are not those of the single calls")
        same = sum(bare(ours) == bare(theirs) for ours, theirs in zip(batch, itself, strict=True))
        seconds = measure(ways, prompts, options.rounds, time.process_time if options.cpu else time.perf_counter)
    single_s, batch_s, itself_s = (median(seconds[name]) for name in ways)
    gain = median(map(lambda one, all: one / all, seconds["one by one"], seconds["batch"]))
    cost = median(map(lambda ours, theirs: ours / theirs, seconds["batch"], seconds["itself"]))
    return (
        f"{engine:<14}{single_s:>11.3f}{batch_s:>9.3f}{gain:>8.1f}x{itself_s:>10.3f}{cost:>8.2f}x{same:>7}/{len(batch)}"
    )


def bare(text: str) -> str:
    """Without what each makes its own text of: special tokens, and half a letter at the end."""
    for token in [*tiny_models.SPECIAL_TOKENS, "\N{REPLACEMENT CHARACTER}"]:
        text = text.replace(token, "")
    return text


def measure(ways: dict[str, Way], prompts: Texts, rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of each way in each round. The rounds are interleaved: what slows the machine slows all ways."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = clock()
            way(prompts)
            seconds[name].append(clock() - began)
    return seconds


def engine_names(text: str) -> list[str]:
    for name in text.split(","):
        if name not in ENGINES:
            raise argparse.ArgumentTypeError(f"unknown engine {name!r}; known are {', '.join(ENGINES)}")
    return text.split(",")


def count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--engines", type=engine_names, default=list(ENGINES), metavar="NAMES", help=f"{','.join(ENGINES)}; all"
    )
    for name, default, what in (
        ("prompts", 64, "how many"),
        ("tokens", 32, "the most that are generated for a prompt"),
        ("rounds", 7, "how often each way is measured"),
        ("batch-size", 32, "prompts at once on Transformers and MLX; vLLM decides by itself"),
    ):
        parser.add_argument(f"--{name}", type=count, default=default, metavar="N", help=f"{what}; {default}")
    parser.add_argument("--cpu", action="store_true", help="CPU time of the process: steadier on a busy machine")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = str(tiny_models.make_random(folder))
        lines = [bench(engine, model, options) for engine in options.engines]
    what = "CPU seconds" if options.cpu else "seconds"
    print(
        f"\n{options.prompts} prompts, up to {options.tokens} tokens each; {what}, medians of {options.rounds} rounds"
    )
    print(f"{'engine':<14}{'one by one':>11}{'batch':>9}{'gain':>9}{'itself':>10}{'cost':>9}{'same texts':>12}")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
