"""How well was it forgotten: counts on the client, metrics from their sums, and the names of the metrics.

Every family is one module with two halves. `count(...)` runs where the data is and returns only counts,
sums or fixed-bin histograms; `fedunlearn.audit.counts.add` adds them over clients; `combine(...)` makes the
metric of the sum.
"""

from __future__ import annotations

from fedunlearn.audit import families  # noqa: F401
from fedunlearn.audit.metric import Metric, metrics

__all__ = ["Metric", "metrics"]
