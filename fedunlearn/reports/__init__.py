"""What a comparison says: tables, pictures and one self-contained page, all from one document."""

from __future__ import annotations

from fedunlearn.reports.table import comparison_table
from fedunlearn.reports.write import write_report

__all__ = ["comparison_table", "write_report"]
