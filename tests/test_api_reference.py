"""docs/api.md against the package: nothing public is missing there, and nothing there is otherwise in the package."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest
from documents import ROOT

import llmbackend
from llmbackend import cli
from llmbackend._config import BatchOptions
from llmbackend.local import mlx, sampling, transformers, vllm

PAGE = (ROOT / "docs/api.md").read_text(encoding="utf-8")
STUBS = "\n".join(re.findall(r"^```pyi\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
FUNCTIONS = {node.name: node for node in ast.parse(STUBS).body if isinstance(node, ast.FunctionDef)}
CLASSES = {node.name: node for node in ast.parse(STUBS).body if isinstance(node, ast.ClassDef)}
ERRORS = {
    name: value
    for name in llmbackend.__all__
    if inspect.isclass(value := getattr(llmbackend, name)) and issubclass(value, llmbackend.LLMBackendError)
}
# Made by the caller; the others are made by a method.
CONSTRUCTED = {"Client", "GenerationConfig", "StructuredOutput", "Usage"}


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def table(title: str, first: str) -> dict[str, str]:
    """The table of a section that has `first` in the head of its first column: each row by the names in that column."""
    rows = section(title).partition(f"\n| {first} |")[2].partition("\n\n")[0].splitlines()[2:]
    assert rows, f"no table of {first} under {title}"
    return {name: row for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}


# ---- What is documented, and what there is.


def test_every_public_name_is_documented() -> None:
    in_words = {name for name in ("UnsupportedParameterWarning", "__version__") if re.search(rf"`[\w.]*{name}`", PAGE)}
    assert {*FUNCTIONS, *CLASSES, *dict(drawn()), *in_words} == set(llmbackend.__all__)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_function_is_as_it_is_documented(name: str) -> None:
    assert told(FUNCTIONS[name]) == told_of(getattr(llmbackend, name))
    assert f"\n| `{name}` |" in section("Functions")


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_a_class_is_as_it_is_documented(name: str) -> None:
    cls, node = getattr(llmbackend, name), CLASSES[name]
    methods = {one.name: one for one in node.body if isinstance(one, ast.FunctionDef)}
    assert ("__init__" in methods) == (name in CONSTRUCTED)
    for method, stub in methods.items():
        found = inspect.getattr_static(cls, method)
        is_property = [ast.unparse(one) for one in stub.decorator_list] == ["property"]
        assert is_property == (isinstance(found, property) or inspect.isgetsetdescriptor(found)), method
        if not is_property:
            # An extension's class has its signature itself.
            of = cls if method == "__init__" and "__init__" not in vars(cls) else getattr(cls, method)
            assert told(stub) == told_of(of), method
        elif isinstance(found, property):
            assert told(stub) == told_of(found.fget), method
    attributes = {
        one.target.id for one in node.body if isinstance(one, ast.AnnAssign) if isinstance(one.target, ast.Name)
    }
    assert methods.keys() - {"__init__"} | attributes == public(name)
    others = [ast.unparse(one) for one in node.body if not isinstance(one, (ast.FunctionDef, ast.AnnAssign))]
    assert others in ([], ["..."])


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_member_has_words(name: str) -> None:
    """A row of a table, somewhere in the section."""
    [place] = [part for part in PAGE.split("\n## ") if re.search(rf"^class {name}\b", part, re.MULTILINE)]
    rows = "\n".join(row.split("|")[1] for row in place.splitlines() if row.startswith("| "))
    assert [one for one in sorted(public(name)) if f"`{one}`" not in rows] == []


def public(name: str) -> set[str]:
    """The public members of a class of ours, by the class itself, and what its constructor sets."""
    cls = getattr(llmbackend, name)
    found = {member for member in vars(cls) if not member.startswith("_")}
    if name in ("Client", "GenerationConfig", "StructuredOutput"):
        examples: dict[str, Any] = {
            "Client": lambda: llmbackend.Client("openai", "m", api_key="k"),
            "GenerationConfig": llmbackend.GenerationConfig,
            "StructuredOutput": lambda: llmbackend.StructuredOutput({"type": "object"}),
        }
        found |= {member for member in getattr(examples[name](), "__dict__", {}) if not member.startswith("_")}
    return found


def told(node: ast.FunctionDef) -> list[tuple[str, ...]]:
    """A documented signature: (kind, name, default, annotation) of each parameter, and what is returned."""
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    found = [("plain", one, default) for one, default in zip(positional, defaults, strict=True)]
    found += [
        ("keyword", one, default) for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    if arguments.kwarg:
        found.append(("others", arguments.kwarg, None))
    assert arguments.vararg is None
    parameters = [
        (kind, one.arg, text(default), text(one.annotation)) for kind, one, default in found if one.arg != "self"
    ]
    return [*parameters, ("returns", text(node.returns))]


KINDS = {
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "plain",
    inspect.Parameter.POSITIONAL_ONLY: "plain",
    inspect.Parameter.KEYWORD_ONLY: "keyword",
    inspect.Parameter.VAR_KEYWORD: "others",
}


def told_of(function: Any) -> list[tuple[str, ...]]:
    """The signature that a function has."""

    def annotation(value: Any) -> str:
        return "" if value is inspect.Parameter.empty else text(ast.parse(value, mode="eval").body)

    signature = inspect.signature(function)
    parameters = [
        (KINDS[one.kind], one.name, "" if one.default is one.empty else repr(one.default), annotation(one.annotation))
        for one in signature.parameters.values()
        if one.name != "self"
    ]
    # A constructor of an extension says nothing of what it returns.
    returns = "None" if function is llmbackend.Usage else annotation(signature.return_annotation)
    return [*parameters, ("returns", returns)]


def text(node: ast.expr | None) -> str:
    return "" if node is None else ast.unparse(node)


# ---- Options: what the code says it knows when it is given what it does not know.


def known(call: Any) -> set[str]:
    with pytest.raises(llmbackend.ConfigurationError) as caught:
        call()
    return set(re.findall(r"\w+", str(caught.value).partition("Known: ")[2].partition(". ")[0]))


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini", "transformers", "vllm", "mlx"])
def test_the_options_of_a_client_are_those_of_the_code(provider: str) -> None:
    rows = table("Options of a client", "option")
    documented = {name for name, row in rows.items() if provider in row.split("|")[2].replace(",", " ").split()}
    assert documented == known(lambda: llmbackend.client(provider, "m", no_such_option=1))


def test_the_defaults_of_options_are_those_of_the_code() -> None:
    rows = table("Options of a client", "option")
    settings = (ROOT / "src/providers/settings.rs").read_text(encoding="utf-8")
    assert f"from_secs({default(rows['timeout'])})" in settings
    assert f"DEFAULT_MAX_RETRIES: u32 = {default(rows['max_retries'])};" in settings
    for provider, option in (("anthropic", "anthropic_version"), ("gemini", "api_version")):
        code = (ROOT / f"src/providers/{provider}/mod.rs").read_text(encoding="utf-8")
        [value] = re.findall(r'"[^"]+"', default(rows[option]))
        assert f"DEFAULT_VERSION: &str = {value};" in code
    local = (ROOT / "docs/local-engines.md").read_text(encoding="utf-8")
    assert f"\n| `max_tokens` | {sampling.MAX_TOKENS}, " in local


def default(row: str) -> str:
    return row.split("|")[3].strip()


def test_the_batch_options_are_those_of_the_code() -> None:
    rows = table("Batch options", "`batch_options`")
    client = llmbackend.client("openai", "m", api_key="k")
    assert set(rows) == known(lambda: client.submit_batch(["a"], batch_options={"no_such_option": 1}))
    assert rows["concurrency"].split("|")[2].strip() == str(BatchOptions(None).concurrency)


def test_the_config_is_that_of_the_code() -> None:
    client = llmbackend.client("openai", "m", api_key="k")
    fields = known(lambda: client.get_response("a", config={"no_such_key": 1}))
    assert set(table("GenerationConfig", "field")) == fields
    entries = table("GenerationConfig", "entry of `extra`")
    assert set(entries) | {"system_instruction"} == set(sampling.COMMON)
    assert "`system_instruction`" in entries["system"]


def test_the_options_of_the_command_are_those_of_the_code() -> None:
    parser = cli._parser()
    [verbs] = [action for action in parser._actions if action.dest == "verb"]
    assert isinstance(verbs.choices, dict)
    for verb, verb_parser in verbs.choices.items():
        [row] = [row for row in section("The command").splitlines() if row.startswith(f"| `llmbackend {verb}` |")]
        options = {one for action in verb_parser._actions for one in action.option_strings} - {"-h", "--help"}
        assert set(re.findall(r"--\w+", row)) == options


# ---- What local engines take; their parameters are written in docs/local-engines.md.


@pytest.mark.parametrize("engine", ["transformers", "vllm", "mlx"])
def test_the_options_of_an_engine_stand_in_its_section(engine: str) -> None:
    titles = {"transformers": "Transformers", "vllm": "vLLM", "mlx": "MLX"}
    page = (ROOT / "docs/local-engines.md").read_text(encoding="utf-8")
    part = page.partition(f"\n## {titles[engine]}\n")[2].partition("\n## ")[0]
    own = known(lambda: llmbackend.client(engine, "m", no_such_option=1)) - {
        "apply_chat_template",
        "add_generation_prompt",
    }
    listed = {
        name for row in part.splitlines() if row.startswith("| `") for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    assert listed == own


def test_what_mlx_takes_is_that_of_the_code() -> None:
    page = (ROOT / "docs/local-engines.md").read_text(encoding="utf-8")
    part = page.partition("\n## MLX\n")[2].partition("```")[0]
    assert [name for name in (*mlx._SAMPLER, *mlx._GENERATOR, *mlx._NAMES, "sampler") if f"`{name}`" not in part] == []


def test_the_chunks_are_those_of_the_code() -> None:
    page = (ROOT / "docs/local-engines.md").read_text(encoding="utf-8")
    chunks = [module.Engine.chunk for module in (transformers, vllm, mlx)]
    assert "({:,} on Transformers, {:,} on vLLM, {:,} on MLX)".format(*chunks) in page
    assert f"`batch_size` ({transformers._BATCH_SIZE})" in page


# ---- Errors.


def drawn() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each error of the tree, with its parents."""
    parents: list[str] = []
    [tree] = re.findall(r"^```text\n(.*?)^```$", section("Errors"), re.MULTILINE | re.DOTALL)
    for line in tree.splitlines():
        found = re.fullmatch(r"([│├└─ ]*)(\w+)(?:\((\w+)\))?(?:  .*)?", line)
        assert found, line
        branch, name, builtin = found.groups()
        depth = len(branch) // 4
        del parents[depth:]
        yield name, tuple(base for base in (parents[-1] if parents else "Exception", builtin) if base)
        parents.append(name)


def test_the_tree_of_errors_is_that_of_the_code() -> None:
    assert dict(drawn()) == {name: tuple(base.__name__ for base in value.__bases__) for name, value in ERRORS.items()}


def test_the_attributes_of_errors_are_those_of_the_code() -> None:
    rows = {
        name: set(re.findall(r"(?:\| |; )`(\w+)`", row.partition("` ")[2]))
        for row in section("Errors").splitlines()
        if row.startswith("| `")
        for name in re.findall(r"^\| `(\w+)`", row)
    }
    inherited = {"BatchItemsError": {"batch_id"}, "UnknownCreateError": {"batch_id"}}
    found = {
        name: {one.name for one in inspect.signature(value).parameters.values() if one.kind is one.KEYWORD_ONLY}
        - inherited.get(name, set())
        for name, value in ERRORS.items()
        if "__init__" in vars(value)
    }
    assert rows == found
