"""What Ray costs beside the clients' own work, and when the local engine spares it."""

from __future__ import annotations

START_SECONDS = 10.0
"""From the call to the first message: Ray's own processes, and one for every core that imports Flower."""
_LEAST_SECONDS = 0.2
_MESSAGE_SECONDS = 0.014
_SCAN_SECONDS = 1.2e-5


def exchange_seconds(clients: int) -> float:
    """What one exchange with `clients` clients costs on two cores when they do nothing, in seconds.

    Flower's simulation looks for messages every tenth of a second, and each time through all of them: a message costs
    the more, the more there are. Fitted to 0.2, 1.6 and 26 s, measured with 10, 100 and 1,000 clients (Flower 1.41).
    """
    return max(_LEAST_SECONDS, clients * (_MESSAGE_SECONDS + _SCAN_SECONDS * clients))


def advice(clients: int, cores: int, cluster: bool, gpus: float) -> str | None:
    """The sentence for whom the local engine would serve better, with what Ray is going to cost; None for the others.

    Args:
        clients: of the federation.
        cores: of this machine.
        cluster: whether Ray joins a cluster of other machines.
        gpus: that a client takes.
    """
    if cluster or gpus > 0:
        return None
    return (
        f"on one machine Ray takes about {START_SECONDS:g} s to start and {exchange_seconds(clients):.1f} s an "
        f"exchange with {clients} clients, whatever they compute; engine='local' with workers={cores} gives the same "
        "models without that."
    )
