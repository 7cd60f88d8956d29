"""The no-op client of the Flower-based contenders: it returns the arrays that it was sent. In a module of its own,
so that worker processes import it."""

from __future__ import annotations

from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

KEY = "A" * 43 + "="


def make_app() -> ClientApp:
    """The app; a function, so that each process builds its own."""
    app = ClientApp()

    @app.train()
    def _train(message: Message, context: Context) -> Message:
        metrics = MetricRecord({"num-examples": 10})
        # Our server asks who raises no flag whether something was filed; as our own clients, this one says no.
        flags = ConfigRecord({"deletion-request": False})
        content = RecordDict({"arrays": message.content["arrays"], "metrics": metrics, "flags": flags})
        return Message(content, reply_to=message)

    @app.query("requests")
    def _requests(message: Message, context: Context) -> Message:
        """What our server asks every client before the first round: who it is."""
        known = {"client": int(context.node_config["partition-id"]), "samples": 10, "retained": 10, "public-key": KEY}
        empty = {name: [] for name in ("ids", "scopes", "classes", "counts", "commitments", "signatures")}
        return Message(RecordDict({"config": ConfigRecord({**known, **empty})}), reply_to=message)

    return app
