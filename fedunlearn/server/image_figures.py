"""The figures of a comparison that only tasks have which answer with images."""

from __future__ import annotations

from collections.abc import Mapping

from flwr.serverapp import Grid

from fedunlearn.audit.metric import metrics
from fedunlearn.server.measuring import Audited, measure_each
from fedunlearn.server.session import Session
from fedunlearn.strategies.method import ModelState
from fedunlearn.strategies.roster import Roster
from fedunlearn.strategies.serving import Job

FIGURES = {
    "out_of_distribution": "out_of_distribution",
    "displacement": "out_of_distribution.displacement",
    "threshold": "out_of_distribution.threshold",
    "forget_ssim": "reconstruction.forget_ssim",
    "retain_ssim": "reconstruction.retain_ssim",
    "unseen_ssim": "reconstruction.unseen_ssim",
    "attack": "reconstruction_attack",
    "proxy_distance": "proxy_quality",
    "proxy_score": "proxy_quality.inception_score",
    "proxy_cosine": "proxy_quality.cosine",
}
"""Figure of a model's entry, under "images" -> the value of a metric that it is."""


def image_figures(
    grid: Grid, session: Session, roster: Roster, job: Job, models: Mapping[str, ModelState], base: ModelState
) -> dict[str, dict[str, float | None]]:
    """Model -> figure -> value, None where it is withheld; nothing for a task that does not answer with images.

    Args:
        models: by the names that they have in the comparison.
        base: the model that the request found.
    """
    names = sorted({value.partition(".")[0] for value in FIGURES.values()})
    if any(metrics.get(name).unsuited(session.task) for name in names):
        return {}
    audited = {kind: Audited(model, before=base) for kind, model in models.items()}
    found = measure_each(grid, roster, session, job, audited, names, session.settings.seed, base=base)
    return {kind: {figure: found[kind][value].value for figure, value in FIGURES.items()} for kind in models}
