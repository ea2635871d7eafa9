"""The Python examples of the README and of docs/, and how they are run: as they are written, and in their order."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ENGINES = re.compile(r"[\"'](transformers|vllm|mlx)[\"']")


class Block(NamedTuple):
    """An example, and the line of its document on which its code begins."""

    document: Path
    line: int
    source: str

    @property
    def needs_engine(self) -> bool:
        return self.document.name == "local-engines.md" or ENGINES.search(self.source) is not None


def blocks(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    return [
        Block(document, text[: found.start()].count("\n") + 2, found.group(1))
        for found in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


def run(examples: Iterable[Block], change: Callable[[str], str] = str, **given: Any) -> dict[str, Any]:
    """Runs examples as one program, whose names it returns.

    `change` may rewrite the code, line by line; `given` are names that stand from the beginning.
    """
    database: list[str] = []
    # The functions that the examples leave to the reader.
    names: dict[str, Any] = {
        "__name__": "documents",
        "save_to_database": database.append,
        "save_batch_id": database.append,
        "load_from_database": lambda: database[-1],
        **given,
    }
    for block in examples:
        # Errors in an example name the document's line.
        tree = ast.increment_lineno(ast.parse(change(block.source)), block.line - 1)
        exec(compile(tree, str(block.document), "exec"), names)
    return names
