"""What a user's code has added to this package, as far as another process has to be told of it."""

from __future__ import annotations


def plugged_in() -> tuple[str, ...]:
    """Modules that registered a task, method, metric, network, source, degradation or attribution; entry points apart.

    A process that imports them knows the same names. "__main__" stands for a script or a notebook, which no other
    process can import.
    """
    from fedunlearn.audit import metrics
    from fedunlearn.channels.attribution import attribution_methods
    from fedunlearn.data.sources import sources
    from fedunlearn.models import networks
    from fedunlearn.strategies import methods
    from fedunlearn.tasks import tasks
    from fedunlearn.tasks.degradations import degradations

    registries = (tasks, methods, metrics, networks, sources, degradations, attribution_methods)
    return tuple(sorted({module for registry in registries for module in registry.modules()}))
