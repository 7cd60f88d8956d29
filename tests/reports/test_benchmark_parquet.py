"""Single runs as Parquet: the same as the CSV, with types."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pyarrow
from pyarrow import parquet

from fedunlearn.reports.benchmark_csv import csv_text, rows
from fedunlearn.reports.benchmark_parquet import parquet_bytes


def test_parquet_equals_csv(document: dict[str, Any]) -> None:
    second = json.loads(json.dumps(document))
    second["void"] = "it did not take."
    documents = [{"cell": "a", "seed": 0, **document}, {"cell": "b", "seed": 1, **second}]
    table = parquet.read_table(io.BytesIO(parquet_bytes(rows(documents))))
    read = csv.DictReader(io.StringIO(csv_text(documents)))
    assert table.column_names == read.fieldnames
    found, wanted = table.to_pylist(), list(read)
    assert len(found) == len(wanted) > 10
    for row, text in zip(found, wanted, strict=True):
        for name, value in row.items():
            assert text[name] == "" if value is None else value == type(value)(text[name])
    assert table.schema.field("seed").type == pyarrow.int64()
    assert table.schema.field("test_accuracy").type == pyarrow.float64()
    assert table.schema.field("model").type == pyarrow.string()


def test_no_rows_are_a_table_without_columns() -> None:
    assert parquet.read_table(io.BytesIO(parquet_bytes([]))).num_rows == 0
