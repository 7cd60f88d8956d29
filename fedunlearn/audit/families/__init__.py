"""The metrics by name: what each is, who measures it, and what may cross. The formulas are in `fedunlearn.audit`.

Importing this package registers them all and loads nothing heavy.
"""

from __future__ import annotations

from fedunlearn.audit.families import harm, images, leakage, membership, remnants, reported
from fedunlearn.audit.metric import metrics

for _metric in (
    *reported.METRICS,
    *membership.METRICS,
    *harm.METRICS,
    *remnants.METRICS,
    *leakage.METRICS,
    *images.METRICS,
):
    metrics.register(_metric.name, _metric)
