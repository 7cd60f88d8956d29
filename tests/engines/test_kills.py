"""A worker is killed at random in every round, and the model is the same, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import threading
import time

import pytest

from fedunlearn.engines import LocalGrid

ROUNDS = 50

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_fifty_kills_change_nothing(pool, build_app, averaged):
    def works(client, message, context):
        time.sleep(0.004)

    with LocalGrid(build_app(works), clients=8, workers=0) as grid:
        undisturbed = averaged(grid, ROUNDS)

    chance, killed = random.Random(0), []

    def kill():
        # One that has the app: the others are still on their way after an earlier kill.
        alive = [desk.worker.pid for desk in grid._clients.desks if desk.opened and not desk.worker.ended]
        alive = [pid for pid in alive if pid not in killed]
        if alive:
            killed.append(chance.choice(alive))
            os.kill(killed[-1], signal.SIGKILL)

    def rounds(grid):
        """One round at a time, as `averaged` plays them, and a kill somewhere in each."""
        original = grid.send_and_receive

        def disturbed(messages):
            timer = threading.Timer(chance.uniform(0, 0.012), kill)
            timer.start()
            yield from original(messages)
            timer.join()

        grid.send_and_receive = disturbed
        return averaged(grid, ROUNDS)

    with LocalGrid(build_app(works), clients=8, workers=3, pool=pool, timeout=60) as grid:
        assert rounds(grid) == undisturbed
    assert len(killed) >= ROUNDS * 0.9
