"""What may hold prompts: a list, a column, the lines of a file. What iterates as something else is refused unread."""

from __future__ import annotations

import array
import collections
import email.message
import io
import os
import tempfile
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import llmbackend

TEXTS = ["title", "body", "日本語 😀"]
ROWS = {"title": TEXTS, "body": ["x", "y", "z"]}


class Only:
    """An object with nothing but one protocol of another, and an iterator."""

    def __init__(self, other: Any, protocol: str) -> None:
        self.texts = other if protocol == "" else TEXTS
        self.calls = 0
        if protocol:

            def export(*arguments: Any) -> Any:
                self.calls += 1
                return getattr(other, protocol)(*arguments)

            setattr(self, protocol, export)

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)


class Keyed:
    """A mapping by its methods, which nobody registered as one."""

    def keys(self) -> list[str]:
        return TEXTS

    def __getitem__(self, key: str) -> str:
        return key

    def __iter__(self) -> Iterator[str]:
        return iter(TEXTS)


def message_of_mail() -> email.message.Message:
    message = email.message.Message()
    message["subject"] = "a"
    return message


TABLE = pa.table(ROWS)
TABLES: dict[str, Callable[[], Any]] = {
    "pandas": lambda: pd.DataFrame(ROWS),
    "pandas, one column": lambda: pd.DataFrame({"title": TEXTS}),
    "pandas, empty": lambda: pd.DataFrame(),
    "polars": lambda: pl.DataFrame(ROWS),
    "pyarrow table": lambda: TABLE,
    "record batch": lambda: TABLE.to_batches()[0],
    "reader": lambda: TABLE.to_reader(),
    "datasets": lambda: datasets.Dataset.from_dict(ROWS),
    "structs": lambda: pa.array([{"title": "a"}]),
    "numpy, two dimensions": lambda: np.array([TEXTS, TEXTS]),
    "numpy, none": lambda: np.array("a"),
    "a stream of a table": lambda: Only(TABLE, "__arrow_c_stream__"),
    "an array of structs": lambda: Only(TABLE.to_batches()[0], "__arrow_c_array__"),
    "a schema": lambda: Only(TABLE.schema, "__arrow_c_schema__"),
    "the interchange protocol": lambda: Only(pd.DataFrame(ROWS), "__dataframe__"),
}
MAPPINGS: dict[str, Callable[[], Any]] = {
    "dict": lambda: {"a": "b"},
    "proxy": lambda: types.MappingProxyType({"a": "b"}),
    "user dict": lambda: collections.UserDict(a="b"),
    "chain": lambda: collections.ChainMap({"a": "b"}),
    "counter": lambda: collections.Counter("ab"),
    "environment": lambda: os.environ,
    "unregistered": Keyed,
    "mail": message_of_mail,
}


@pytest.fixture
def refused(box: llmbackend.Sandbox, client: llmbackend.Client) -> Iterator[Callable[..., str]]:
    def submit(inputs: Any, **options: Any) -> str:
        with pytest.raises(llmbackend.ConfigurationError) as caught:
            client.submit_batch(inputs, batch_options=options)
        return str(caught.value)

    yield submit
    assert box.requests() == []


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_not_its_columns(refused: Any, name: str, native: bool) -> None:
    message = refused(TABLES[name](), native=native)
    assert "a table" in message
    assert "one column" in message


def test_the_error_of_a_table_says_how_to_take_a_column(refused: Any) -> None:
    assert "columns 'title', 'body', and" in refused(pd.DataFrame(ROWS))
    assert refused(pd.DataFrame(ROWS)).endswith("give one column, like inputs['title']")
    assert refused(pl.DataFrame(ROWS)).endswith("give one column, like inputs['title']")
    assert refused(datasets.Dataset.from_dict(ROWS)).endswith("give one column, like inputs['title']")
    assert refused(TABLE).endswith("give one column, like inputs['title'].to_pylist()")


@pytest.mark.parametrize("name", MAPPINGS)
def test_a_mapping_is_not_its_keys(refused: Any, name: str) -> None:
    message = refused(MAPPINGS[name]())
    assert "iterates its keys; give its values as a list of prompts" in message
    assert 'batch_options["custom_ids"]' in message


@pytest.mark.parametrize("make", [*TABLES.values(), *MAPPINGS.values()], ids=[*TABLES, *MAPPINGS])
def test_ids_are_no_tables_and_no_mappings_either(refused: Any, make: Callable[[], Any]) -> None:
    assert refused(["a", "b"], custom_ids=make()).startswith('batch_options["custom_ids"] is a ')


@pytest.mark.parametrize("inputs", [pa.array(TEXTS), pa.chunked_array([TEXTS]), pa.array(TEXTS).dictionary_encode()])
def test_arrays_of_pyarrow_iterate_scalars(refused: Any, client: Any, inputs: Any) -> None:
    assert refused(inputs).endswith("give inputs.to_pylist()")
    # A generator of its scalars is seen when the first of them comes.
    assert "inputs[0] is a " in refused(item for item in inputs)
    assert "to_pylist()" in refused(item for item in inputs)


KINDS = ["memoryview", "array", "UserString", "bytes", "str"]


@pytest.mark.parametrize(
    "inputs", [memoryview(b"abc"), array.array("u", "abc"), collections.UserString("abc"), b"abc", "abc"], ids=KINDS
)
def test_one_text_is_not_a_series_of_characters(refused: Any, inputs: Any) -> None:
    message = refused(inputs)
    assert "inputs is one" in message or "inputs[0] is a UserString" in message


COLUMNS: dict[str, Callable[[], Any]] = {
    "pandas": lambda: pd.Series(TEXTS),
    "pandas, objects": lambda: pd.Series(TEXTS, dtype=object),
    "pandas, categories": lambda: pd.Series(TEXTS, dtype="category"),
    "pandas, odd labels": lambda: pd.Series(TEXTS, index=["readline", "keys", "to_pylist"]),
    "pandas, arrow": lambda: pd.Series(TEXTS, dtype=pd.ArrowDtype(pa.string())),
    "pandas, a slice": lambda: pd.DataFrame({"a": ["no", *TEXTS, "no"]})["a"][1:4],
    "pandas, an index": lambda: pd.Index(TEXTS),
    "polars": lambda: pl.Series(TEXTS),
    "polars, categories": lambda: pl.Series(TEXTS, dtype=pl.Categorical),
    "polars, a column": lambda: pl.DataFrame({"a": TEXTS})["a"],
    "numpy": lambda: np.array(TEXTS),
    "numpy, objects": lambda: np.array(TEXTS, dtype=object),
    "numpy, new strings": lambda: np.array(TEXTS, dtype=np.dtypes.StringDType()),
    "numpy, backwards": lambda: np.array(TEXTS[::-1])[::-1],
    "datasets": lambda: datasets.Dataset.from_dict(ROWS)["title"],
    "values of a dict": lambda: dict(enumerate(TEXTS)).values(),
    "keys of a dict": lambda: dict.fromkeys(TEXTS).keys(),
    "deque": lambda: collections.deque(TEXTS),
    "a stream of a column": lambda: Only(pa.chunked_array([TEXTS]), "__arrow_c_stream__"),
    "an array of a column": lambda: Only(pa.array(TEXTS), "__arrow_c_array__"),
    "a list of pyarrow": lambda: TABLE["title"].to_pylist(),
}


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("name", COLUMNS)
def test_columns_are_series_of_prompts(client: Any, name: str, native: bool) -> None:
    batch = client.submit_batch(COLUMNS[name](), batch_options={"native": native})
    assert batch.wait(0.01).results() == TEXTS


@pytest.mark.parametrize("name", ["pandas, odd labels", "polars", "numpy", "datasets", "deque"])
def test_columns_are_ids(client: Any, name: str) -> None:
    batch = client.submit_batch(TEXTS, batch_options={"custom_ids": COLUMNS[name]()})
    assert [item.custom_id for item in batch.wait(0.01).items()] == TEXTS


def test_an_export_is_called_once(client: Any) -> None:
    column = Only(pa.chunked_array([TEXTS]), "__arrow_c_stream__")
    client.submit_batch(column)
    assert column.calls == 1


def test_an_export_that_fails_is_told(client: Any, box: Any) -> None:
    class Broken(Only):
        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            raise ImportError("no pyarrow here")

    with pytest.raises(ImportError) as caught:
        client.submit_batch(Broken(TEXTS, ""))
    assert caught.value.__notes__ == ["llmbackend: raised by the Arrow export of inputs, a Broken; nothing was sent"]
    for nonsense in (7, None, ()):
        hostile = Only(
            types.SimpleNamespace(__arrow_c_stream__=lambda nonsense=nonsense: nonsense), "__arrow_c_stream__"
        )
        with pytest.raises(TypeError):
            client.submit_batch(hostile)
    assert box.requests() == []


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT, np.datetime64("NaT")])
def test_a_missing_value_is_named(refused: Any, missing: Any) -> None:
    message = refused(pd.Series(["a", missing], dtype=object))
    assert message.startswith("inputs[1] is a ")
    assert "missing value" in message


FILES: dict[str, Callable[[Path], Any]] = {
    "file": lambda path: path.open(encoding="utf-8"),
    "file, ends as they are": lambda path: path.open(encoding="utf-8", newline=""),
    "StringIO": lambda path: io.StringIO(path.read_text(encoding="utf-8")),
    "wrapper": lambda path: io.TextIOWrapper(io.BytesIO(path.read_bytes()), encoding="utf-8"),
    "spooled": lambda path: _filled(tempfile.SpooledTemporaryFile(mode="w+", encoding="utf-8"), path),  # noqa: SIM115
    "temporary": lambda path: _filled(tempfile.NamedTemporaryFile("w+", encoding="utf-8"), path),  # noqa: SIM115
}


def _filled(file: Any, path: Path) -> Any:
    file.write(path.read_text(encoding="utf-8"))
    file.seek(0)
    return file


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "end"])
@pytest.mark.parametrize("name", FILES)
def test_lines_of_a_file_are_sent_without_their_ends(
    client: Any, tmp_path: Path, name: str, end: str, last: str
) -> None:
    lines = ["  one ", "two\u2028\u0085\x0bthree", "日本語 😀"]
    path = tmp_path / "prompts.txt"
    path.write_bytes((end.join(lines) + (end if last else "")).encode())
    with FILES[name](path) as file:
        assert client.submit_batch(file).wait(0.01).results() == lines
    with FILES[name](path) as file:
        batch = client.submit_batch(["a", "b", "c"], batch_options={"custom_ids": file})
    assert [item.custom_id for item in batch.wait(0.01).items()] == lines


@pytest.mark.parametrize(("text", "number"), [("\n", 1), ("a\n\nb\n", 2), ("a\nb\n \t\n", 3), ("a\n\u3000", 2)])
@pytest.mark.parametrize("native", [True, False])
def test_a_blank_line_is_named_by_its_number(refused: Any, text: str, number: int, native: bool) -> None:
    assert f"line {number} of the file given as inputs is blank" in refused(io.StringIO(text), native=native)


def test_an_empty_file_has_no_prompts(client: Any) -> None:
    assert client.submit_batch(io.StringIO("")).results() == []


def test_a_file_of_bytes_is_told_to_be_decoded(refused: Any) -> None:
    assert "inputs[0] is a bytes" in refused(io.BytesIO(b"a\n"))
    assert "text mode" in refused(io.BytesIO(b"a\n"))
