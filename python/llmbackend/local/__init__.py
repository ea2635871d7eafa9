"""Engines that run on this machine, in this process.

A prompt's way: `client` reads it (`conversation`: template, tokens) and what is asked of it (`sampling`), an engine
(`transformers`, `vllm`, `mlx`: tokens to tokens) answers, and `conversation` makes a text of that. Nothing heavy is
imported before the first prompt.

To add an engine: a module here with a class `Engine` (see `engine.Engine`), and a line in the table below.
"""

from __future__ import annotations

# Provider -> module of this package.
ENGINES = {"transformers": "transformers", "vllm": "vllm", "mlx": "mlx"}
