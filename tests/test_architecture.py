"""The invariants of ARCHITECTURE.md, as greps."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RUST = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "src").rglob("*.rs"))
PYTHON = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "python").rglob("*.py"))
LOCAL = "python/llmbackend/local/"
MAP = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("## The map")[2].partition("\n## ")[0]

# Rows of the map whose second column is "pure", spelled out: a file that stops being pure must be taken off on purpose.
PURE = [
    "src/answer.rs",
    "src/batch/assign.rs",
    "src/batch/caveats.rs",
    "src/candidates.rs",
    "src/conversation.rs",
    "src/batch/collect.rs",
    "src/batch/creation.rs",
    "src/batch/ids.rs",
    "src/batch/lifecycle.rs",
    "src/batch/order.rs",
    "src/batch/plan.rs",
    "src/batch/result_files.rs",
    "src/bounds.rs",
    "src/connect_error.rs",
    "src/error.rs",
    "src/exchange.rs",
    "src/generation.rs",
    "src/inline.rs",
    "src/json.rs",
    "src/jsonl.rs",
    "src/providers/",
    "src/proxy.rs",
    "src/redact/",
    "src/retry.rs",
    "src/schema/",
    "src/suggest.rs",
]
IMPURE = re.compile(
    r"\btokio\b|std::net\b|\b(Tcp|Udp)\w+::|\bFile::(open|create|options)|\bOpenOptions\b|\bfs::(read|write|create|remove|copy|rename)"
    r"|\b(Instant|SystemTime)::now|thread::(sleep|spawn)|\btempfile::|Command::new"
)

# Importing these takes a dependency, and often seconds. It belongs into functions, everywhere.
OPTIONAL = {
    *("anthropic", "google", "openai", "pyarrow", "pydantic", "tqdm"),
    *("accelerate", "mlx", "mlx_lm", "numpy", "peft", "tokenizers", "torch", "transformers", "vllm"),
}
# These cost milliseconds, which the modules that `import llmbackend` imports do not have.
HEAVY = OPTIONAL | {
    *("argparse", "asyncio", "collections", "dataclasses", "inspect", "json", "logging", "re", "typing"),
}


def code(path: str) -> str:
    """The Rust code of a file without comments, strings' contents left in, and without its tests."""
    text = (ROOT / path).read_text(encoding="utf-8").partition("#[cfg(test)]\nmod tests")[0]
    return re.sub(r"(?m)//.*$", "", text)


def naming(pattern: str) -> set[str]:
    return {path for path in RUST if re.search(pattern, code(path))}


def outside(paths: set[str], *places: str) -> set[str]:
    return {path for path in paths if not path.startswith(places)}


def test_the_greps_see_the_code() -> None:
    assert len(RUST) > 50
    assert len(PYTHON) > 8
    assert naming(r"\bpyo3\b")
    assert naming(r"\breqwest\b")
    assert naming(r"\bhyper(_util)?\b")
    assert naming(r"\bunsafe\b")
    assert IMPURE.search(code("src/transport.rs"))
    assert IMPURE.search(code("src/batch/run.rs"))


def test_only_src_py_knows_python() -> None:
    assert outside(naming(r"\bpyo3\b"), "src/py/") == set()


def test_only_the_transport_knows_reqwest() -> None:
    assert naming(r"\breqwest\b") == {"src/transport.rs"}


def test_only_the_sandbox_knows_hyper() -> None:
    assert outside(naming(r"\b(hyper|hyper_util|http_body_util)\b"), "src/sandbox/") == set()


def test_the_sandbox_uses_nothing_of_the_client() -> None:
    astray = {
        f"{path}: {found}"
        for path in RUST
        if path.startswith("src/sandbox/")
        for found in re.findall(r"\bcrate::(?!sandbox\b)\w+", code(path))
    }
    assert astray == set()


def test_unsafe_is_in_two_files() -> None:
    assert naming(r"\bunsafe\b") == {"src/py/arrow.rs", "src/py/text.rs"}


@pytest.mark.parametrize("place", PURE)
def test_pure_files_do_no_io(place: str) -> None:
    files = [path for path in RUST if path.startswith(place)]
    assert files
    astray = {f"{path}: {found.group()}" for path in files for found in IMPURE.finditer(code(path))}
    assert astray == set()


def test_the_map_says_the_same_of_what_is_pure() -> None:
    pure: set[str] = set()
    for line in MAP.splitlines():
        if "| pure |" in line:
            pure.update(places(line))
    assert pure == set(PURE)


def places(row: str) -> Iterator[str]:
    """The paths in the first column of a row; `b.rs` after `src/a/x.rs` stands beside it."""
    folder = ""
    for name in re.findall(r"`([^`]+)`", row.split("|")[1]):
        if not name.startswith("src/"):
            name = folder + name
        folder = name.rpartition("/")[0] + "/"
        yield name


def test_every_file_has_its_place_in_the_map() -> None:
    known = tuple(place for line in MAP.splitlines() if line.startswith("| `src/") for place in places(line))
    assert known
    assert [path for path in RUST if not path.startswith(known)] == []
    assert [place for place in known if not (ROOT / place).exists()] == []


def test_every_python_module_is_in_the_map() -> None:
    known = re.findall(r"^\| `(python/\S+\.py)` ", MAP, re.MULTILINE)
    assert sorted(known) == PYTHON


def test_lib_rs_says_the_same_of_what_is_pure() -> None:
    table = re.findall(
        r"//! \| \[?`(\w+)`\]? \| (pure|IO|both|) ?\|", (ROOT / "src/lib.rs").read_text(encoding="utf-8")
    )
    assert table
    by_map = {re.sub(r"^src/|\.rs$|/$", "", place) for place in PURE}
    assert {name for name, kind in table if kind == "pure"} <= by_map


@pytest.mark.parametrize("path", PYTHON)
def test_python_imports_what_is_heavy_late(path: str) -> None:
    late = OPTIONAL if is_late(path) else HEAVY
    assert {name for name in at_import(tree(path).body) if name.partition(".")[0] in late} == set()


def is_late(path: str) -> bool:
    """Whether it is imported with the first local client only."""
    return path.startswith(LOCAL) and path != f"{LOCAL}__init__.py"


def tree(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def test_only_the_table_of_local_engines_is_imported_early() -> None:
    early = [path for path in PYTHON if not is_late(path)]
    assert len(early) < len(PYTHON)
    inside = {f"{path}: {name}" for path in early for name in at_import(tree(path).body) if ".local" in name}
    # As `from .local import NAME`, which imports the table; what it takes from there is no module.
    assert inside == {"python/llmbackend/_client.py: .local"}
    taken = re.findall(r"^from \.local import (.+)$", (ROOT / "python/llmbackend/_client.py").read_text(), re.MULTILINE)
    assert taken == ["ENGINES"]


def test_every_engine_of_the_table_has_a_module_with_an_engine() -> None:
    from llmbackend.local import ENGINES

    for module in ENGINES.values():
        assert "Engine" in {node.name for node in tree(f"{LOCAL}{module}.py").body if isinstance(node, ast.ClassDef)}


def at_import(body: list[ast.stmt]) -> Iterator[str]:
    """The modules that a module's import imports."""
    for statement in body:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            yield "." * statement.level + (statement.module or "")
        elif isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            yield from at_import(statement.orelse)
        elif isinstance(statement, (ast.If, ast.Try, ast.With, ast.ClassDef)):
            yield from at_import([node for node in ast.iter_child_nodes(statement) if isinstance(node, ast.stmt)])


# Generated, or tables that read best whole.
LONG = {"src/schema/openai.rs": 490}


@pytest.mark.parametrize("path", [*RUST, *PYTHON])
def test_files_are_short(path: str) -> None:
    lines = (ROOT / path).read_text(encoding="utf-8").count("\n")
    assert lines <= LONG.get(path, 430)
