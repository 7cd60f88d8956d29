"""What a client owns: its samples, its folder, its inbox, and what of its samples it still uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import numpy as np
import torch
from flwr.app import Context
from torch import nn

from fedunlearn.channels.layout import Layout
from fedunlearn.clients.base_models import BaseModels
from fedunlearn.clients.inbox import Inbox
from fedunlearn.clients.keys import ClientKey
from fedunlearn.clients.site_cache import BoundedCache
from fedunlearn.config import FederationSettings, settings_from_run_config
from fedunlearn.data.dataset import Samples
from fedunlearn.data.holding import Holding, holding
from fedunlearn.errors import ClientError
from fedunlearn.tasks import get_task
from fedunlearn.tasks.base import Task
from fedunlearn.tasks.cohort_choice import Size
from fedunlearn.tasks.device import THIS_PROCESSOR, Device
from fedunlearn.tasks.layout import layout_of
from fedunlearn.tasks.training import TrainingSettings

ModelState = Mapping[str, torch.Tensor]

SITE_BYTES = 512 * 2**20
"""What a process keeps of its clients' samples and models; a client beyond it is loaded anew when it is served."""


@dataclass(frozen=True)
class Site:
    """One client's place.

    Attributes:
        client: its id.
        folder: its own folder; nobody else reads it.
        task: what is learned.
        holding: its samples.
        classes: number of classes.
        layout: the channels of the federation's model.
        training: the federation's local recipe.
        blank: a model of the federation's architecture; `load` fills it.
        cohort: how many clients may be trained together.
        device: where training computes.
        prepare_for: methods for which this client prepares something during training.
        seed: of the run.
    """

    client: int
    folder: Path
    task: Task
    holding: Holding
    classes: int
    layout: Layout
    training: TrainingSettings
    blank: nn.Module
    cohort: Size = "auto"
    device: Device = THIS_PROCESSOR
    prepare_for: tuple[str, ...] = ()
    seed: int = 0

    @property
    def inbox(self) -> Inbox:
        """Deletion requests that were filed here."""
        return Inbox(self.folder)

    @property
    def base_models(self) -> BaseModels:
        """Models that this client keeps by digest, so that they need not be sent again."""
        return BaseModels(self.folder / "base")

    @property
    def public_key(self) -> str:
        """The key that signs this client's requests; the server registers it at first contact."""
        return ClientKey.of(self.folder).public_key

    @property
    def features(self) -> int:
        """How many numbers go into the output layer."""
        return int(attrgetter(self.layout.output[0])(self.blank).shape[1])

    def load(self, state: ModelState) -> nn.Module:
        """The federation's model with `state` in it. Raises ClientError when it does not fit."""
        try:
            self.blank.load_state_dict(dict(state))
        except RuntimeError as error:
            names = ", ".join(sorted(state)[:3])
            raise ClientError(
                f"the received model ({names}, …) is not of this federation's architecture; "
                "start the federation with the network that the model was made with."
            ) from error
        return self.blank

    def training_samples(self) -> Samples:
        """What may be trained on: everything but the held-out samples and every filed forget set."""
        return self.holding.samples.take(self.holding.training_positions(self.inbox.forgotten_positions()))

    def held_out_samples(self) -> Samples:
        """Samples that are never trained on; those of a forget set too, for they are unseen all the same."""
        return self.holding.samples.take(self.holding.held_out)

    def forget_positions(self, request_ids: Sequence[str]) -> np.ndarray:
        """Training positions of the requests' forget set here, sorted; empty for a client that has none."""
        wanted = [request.positions for request in self.inbox.all() if request.id in request_ids]
        if not wanted:
            return np.empty(0, dtype=np.int64)
        asked = np.unique(np.concatenate([np.asarray(p, dtype=np.int64) for p in wanted]))
        return np.setdiff1d(asked, self.holding.held_out)


def site_from_context(context: Context) -> Site:
    """The site of the client that Flower is asking: its id is its partition id.

    In simulation all folders are in the run's; a deployment names `client-folder` in the node's configuration.
    Raises ClientError when neither is there.
    """
    settings = settings_from_run_config(context.run_config)
    client = int(context.node_config["partition-id"])
    if "client-folder" in context.node_config:
        folder = Path(str(context.node_config["client-folder"]))
    elif context.run_config.get("out"):
        folder = Path(str(context.run_config["out"])) / "clients" / str(client)
    else:
        raise ClientError(f"client {client} has no folder; give `client-folder` in the node's configuration.")
    return _sites.get((settings, folder, client), lambda: _simulated_site(settings, folder, client))


def _simulated_site(settings: FederationSettings, folder: Path, client: int) -> Site:
    torch.set_num_threads(1)
    task = get_task(settings.task)
    dataset = task.dataset(settings.seed)
    model = task.build(settings.network, 0, dataset)
    return Site(
        client=client,
        folder=folder,
        task=task,
        holding=holding(settings, client, dataset),
        classes=len(dataset.classes),
        layout=layout_of(task, model, dataset),
        training=TrainingSettings.of(settings),
        blank=model,
        cohort=settings.cohort,
        device=Device.of(settings),
        prepare_for=settings.prepared_methods,
        seed=settings.seed,
    )


def _size(site: Site) -> int:
    """Bytes of a site: its samples and its model; the data set that they come from is the process's own."""
    holding = site.holding
    tensors = [holding.samples.inputs, holding.samples.labels, holding.true_labels, *site.blank.state_dict().values()]
    arrays = sum(array.nbytes for array in (holding.parts, holding.held_out))
    return arrays + sum(tensor.numel() * tensor.element_size() for tensor in tensors)


# A process serves the same clients round after round (the engines see to it), and memory stays flat with many of them.
_sites: BoundedCache[Site] = BoundedCache(SITE_BYTES, _size)
