"""What a job on the server works with: the run folder, the ledger, the models, the task."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from fedunlearn.config import FederationSettings
from fedunlearn.data.dataset import Dataset, Samples
from fedunlearn.data.planting import Backdoor
from fedunlearn.data.server_share import server_inputs
from fedunlearn.progress import OnProgress, Progress
from fedunlearn.server.ledger import Ledger
from fedunlearn.server.model_store import ModelStore
from fedunlearn.server.run_folder import RunFolder
from fedunlearn.server.run_key import RunKey
from fedunlearn.server.tombstones import tombstones
from fedunlearn.strategies.method import ModelState
from fedunlearn.strategies.unlearning import Architecture
from fedunlearn.tasks import get_task
from fedunlearn.tasks.base import Task
from fedunlearn.tasks.layout import layout_of
from fedunlearn.tasks.training import TrainingSettings


@dataclass(frozen=True)
class Session:
    """One job's view of a run. Everything that takes time is made when it is first used."""

    folder: RunFolder
    on_progress: OnProgress | None = None

    @property
    def settings(self) -> FederationSettings:
        """The federation's settings."""
        return self.folder.settings

    @cached_property
    def ledger(self) -> Ledger:
        """The run's ledger."""
        return Ledger(self.folder.ledger_url, self.folder.run)

    def run_key(self) -> RunKey:
        """The run's key, opened once. Raises RunFolderError when it cannot be used."""
        if not self._opened_keys or not self._opened_keys[-1].is_current:
            self._opened_keys.append(RunKey.of(self.folder.server_key, self.ledger))
        return self._opened_keys[-1]

    @cached_property
    def _opened_keys(self) -> list[RunKey]:
        return []

    @cached_property
    def models(self) -> ModelStore:
        """The run's models, by digest."""
        return ModelStore(self.folder.models, lambda: tombstones(self.ledger.entries()).models)

    @cached_property
    def task(self) -> Task:
        """What is learned."""
        return get_task(self.settings.task)

    @cached_property
    def dataset(self) -> Dataset:
        """Only its test set is the server's; the training samples belong to the clients."""
        return self.task.dataset(self.settings.seed)

    @cached_property
    def blank(self) -> nn.Module:
        """A model of the federation's architecture, to be filled with a state."""
        torch.set_num_threads(1)
        return self.task.build(self.settings.network, 0, self.dataset)

    @cached_property
    def architecture(self) -> Architecture:
        """The model's channels, and fresh weights for a seed."""
        layout = layout_of(self.task, self.blank, self.dataset)
        return Architecture(layout, self.fresh, self._network)

    @cached_property
    def backdoor(self) -> Backdoor | None:
        """The trigger that a client was given, if any."""
        return Backdoor.parse(self.settings.backdoor) if self.settings.backdoor else None

    @cached_property
    def triggered(self) -> Samples | None:
        """The test set with the trigger in it and its true labels, if a client was given a back-door."""
        test = self.dataset.test
        return None if self.backdoor is None else Samples(self.backdoor.stamp(test.inputs), test.labels)

    @property
    def training(self) -> TrainingSettings:
        """The clients' local recipe."""
        return TrainingSettings.of(self.settings)

    def fresh(self, seed: int) -> ModelState:
        """What training starts from: the model that the settings name, or else a newly initialised one."""
        return self.fresh_weights(seed) if self.settings.init is None else self.models.load(self.settings.init)

    def fresh_weights(self, seed: int) -> ModelState:
        """The state of a newly initialised model."""
        return dict(self.task.build(self.settings.network, seed, self.dataset).state_dict())

    @cached_property
    def server_data(self) -> Tensor | None:
        """The server's own samples, inputs only; None: it has none."""
        return server_inputs(self.settings, self.dataset)

    def _network(self, state: ModelState) -> nn.Module:
        network = copy.deepcopy(self.blank)
        network.load_state_dict(state)
        return network

    def tell(self, phase: str, step: int, total: int, detail: str = "") -> None:
        """Report progress to whoever listens."""
        if self.on_progress is not None:
            self.on_progress(Progress(phase, step, total, detail))
