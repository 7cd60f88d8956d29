"""The client of a training job in Flower's own simulation: a module, since its worker processes import it by name."""

from __future__ import annotations

import json
import os
from functools import lru_cache

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from local_training import network, tensors, train

JOB = "FEDUNLEARN_BENCHMARK_JOB"


@lru_cache(maxsize=1)
def own_network() -> torch.nn.Module:
    """The network of this process."""
    torch.set_num_threads(1)
    return network(json.loads(os.environ[JOB]))


@lru_cache(maxsize=128)
def own_data(client: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A client's samples, kept as long as the process lives."""
    return tensors(json.loads(os.environ[JOB]), client)


def training_app() -> ClientApp:
    """The client app."""
    app = ClientApp()

    @app.train()
    def _train(message: Message, context: Context) -> Message:
        client = int(context.node_config["partition-id"])
        model, (inputs, labels) = own_network(), own_data(client)
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        number = int(message.content["config"]["server-round"])
        train(model, inputs, labels, seed=number * 1000 + client)
        metrics = MetricRecord({"num-examples": len(labels)})
        content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
        return Message(content, reply_to=message)

    return app
