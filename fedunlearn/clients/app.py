"""The ClientApp: handlers behind the guard. `add_erasure` puts the same handlers beside those of any app."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedunlearn.clients import erasing, handlers, measuring, pictures
from fedunlearn.clients.cohort import CohortApp
from fedunlearn.clients.guard import guarded
from fedunlearn.clients.site import Site, site_from_context
from fedunlearn.config import UnlearnSettings
from fedunlearn.strategies import methods

SiteHandler = Callable[[Message, Site], Message]
SiteOf = Callable[[Context], Site]

STANDARD_MESSAGES = ("query.reference", "query.attribute", "train.forget", "train.recover")
"""What any method may send, whatever its settings; a message of another name it sends by default as well, or
names in `messages`."""


def client_app() -> ClientApp:
    """The app of a simulated federation: ordinary training and everything that erasure needs."""
    # The first optimiser of a process makes torch load its compiler: seconds that no round should be charged with.
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    app = CohortApp(site_from_context, partial(_behind_guard, site_of=site_from_context))
    app.train()(_behind_guard(handlers.train, site_from_context))
    return add_erasure(app, site_from_context)


def add_erasure(app: ClientApp, site_of: SiteOf) -> ClientApp:
    """Register the erasure handlers beside `app`'s own, and return it.

    Args:
        app: any Flower ClientApp; its `train` must leave out what a filed request names
            (`site.training_samples()` does).
        site_of: the client's place for a Flower context.
    """
    app.query("requests")(_behind_guard(handlers.announce, site_of))
    app.query("acknowledge")(_behind_guard(handlers.acknowledge, site_of))
    app.query("erase")(_behind_guard(erasing.erase, site_of))
    app.evaluate("audit")(_behind_guard(handlers.audit, site_of))
    app.evaluate("measure")(_behind_guard(measuring.measure, site_of))
    app.evaluate("pictures")(_behind_guard(pictures.pictures, site_of))
    for kind, action in sorted(_phase_messages()):
        register = app.train if kind == "train" else app.query
        register(action)(_behind_guard(handlers.run_phase, site_of))
    return app


def _phase_messages() -> set[tuple[str, str]]:
    """Every message that a phase of a registered method sends, as (category, action)."""
    messages = set(STANDARD_MESSAGES)
    for name in methods.names():
        method = methods.get(name)
        messages.update(phase.message for phase in method.phases(UnlearnSettings(method=name), rounds=1))
        messages.update(getattr(method, "messages", ()))
    return {(category, action) for category, _, action in (message.partition(".") for message in messages)}


def _behind_guard(handler: SiteHandler, site_of: SiteOf) -> Callable[[Message, Context], Message]:
    def answer(message: Message, context: Context) -> Message:
        # Found once a message: it is looked for by all the settings.
        site = cache(partial(site_of, context))
        guard = guarded(
            lambda message, _: handler(message, site()),
            lambda _: {group.layer: group.channels for group in site().layout.groups},
            lambda _: site().classes,
            lambda _: site().features,
        )
        return guard(message, context)

    return answer


app = client_app()
