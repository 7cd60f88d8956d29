"""The ClientApp that answers the training messages of several clients at once, where that is of use."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedunlearn.clients import handlers
from fedunlearn.clients.site import Site
from fedunlearn.strategies.method import TrainsLocally
from fedunlearn.tasks.cohort import could_gain, one_by_one, train_cohort
from fedunlearn.tasks.cohort_choice import Choices
from fedunlearn.tasks.local_training import LocalTraining
from fedunlearn.tasks.training import TrainingResult

logger = logging.getLogger("fedunlearn.clients")

SiteHandler = Callable[[Message, Site], Message]
Handler = Callable[[Message, Context], Message]


@dataclass(frozen=True)
class _Prepared:
    """A message whose answer only needs training to be done."""

    training: LocalTraining
    answer: Callable[[TrainingResult], Message]


class CohortApp(ClientApp):
    """A ClientApp that an engine may hand several messages of one kind, with their clients' contexts.

    Args:
        site_of: the client's place for a Flower context.
        behind_guard: puts the guard before a handler; every answer passes it, as a single one does.
    """

    def __init__(self, site_of: Callable[[Context], Site], behind_guard: Callable[[SiteHandler], Handler]) -> None:
        super().__init__()
        self._site_of = site_of
        self._behind_guard = behind_guard
        self._choices = Choices()

    def batch(self, messages: Sequence[Message], contexts: Sequence[Context]) -> list[Message | None] | None:
        """The answers to several clients' messages: what each of them alone would answer, bit for bit.

        Returns:
            An answer for each message, None for one that is to be answered singly; None altogether where nothing is
            gained by answering them together, or they have nothing in common.
        """
        kinds = {message.metadata.message_type for message in messages}
        if len(messages) < 2 or len(kinds) > 1 or not kinds.pop().startswith("train"):
            return None
        sites = [self._site_of(context) for context in contexts]
        first = sites[0]
        if one_by_one(first.cohort, first.device) or len({site.client for site in sites}) < len(sites):
            return None
        begin = _prepared(messages[0], first)
        if begin is None or not could_gain(begin.training, self._choices, first.device):
            return None
        prepared = [begin, *map(_prepared, messages[1:], sites[1:])]
        ready = [one for one in prepared if one is not None]
        results = iter(train_cohort([one.training for one in ready], first.cohort, self._choices, first.device))
        return [
            None if one is None else self._guarded(one.answer(next(results)), message, context)
            for one, message, context in zip(prepared, messages, contexts, strict=True)
        ]

    def _guarded(self, answer: Message, message: Message, context: Context) -> Message:
        return self._behind_guard(lambda *_: answer)(message, context)


def _prepared(message: Message, site: Site) -> _Prepared | None:
    """What a message asks to train; None if it asks for something else, or cannot be answered as it is."""
    try:
        if message.metadata.message_type == "train":
            training = handlers.ordinary_training(message, site)
            return _Prepared(training, partial(handlers.trained, message, site, training)) if training.samples else None
        asked = handlers.phase_work(message, site)
        if asked is None or not isinstance(asked[0].compute, TrainsLocally):
            return None
        compute, work = asked[0].compute, asked[1]
        training = compute.training(work)
    except Exception:
        # Asked singly, the client says in a sentence what is wrong.
        logger.debug("a %r message is left out of its cohort", message.metadata.message_type, exc_info=True)
        return None
    if not training.samples:
        return None

    def answer(result: TrainingResult) -> Message:
        return handlers.phase_answer(message, site, compute.told(work, result))

    return _Prepared(training, answer)
