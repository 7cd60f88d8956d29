"""A benchmark's single runs as Parquet: the rows of the CSV, with types."""

from __future__ import annotations

import io
from collections.abc import Sequence

from fedunlearn.errors import SettingsError
from fedunlearn.reports.benchmark_csv import Row, heads_of


def parquet_bytes(rows: Sequence[Row]) -> bytes:
    """The rows as Parquet: texts, whole numbers or floats, null where there is none.

    Raises:
        SettingsError: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise SettingsError(
            "results.parquet needs the package pyarrow: install it with pip and give the same command again; "
            "all other tables are written."
        ) from error
    columns = {}
    for head in heads_of(rows):
        values = [row.get(head) for row in rows]
        kinds = {type(value) for value in values if value is not None}
        if str in kinds:
            kind = pyarrow.string()
            values = [None if value is None else str(value) for value in values]
        elif kinds <= {int}:
            kind = pyarrow.int64() if kinds else pyarrow.null()
        else:
            kind = pyarrow.float64()
            values = [None if value is None else float(value) for value in values]
        columns[head] = pyarrow.array(values, type=kind)
    written = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), written)
    return written.getvalue()
