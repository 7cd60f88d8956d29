"""What may be said of a decoupled model in numbers: epsilon, delta, the noise and the bound, and all that they assume.

A neural network meets none of the assumptions that matter: the numbers are nominal, and no evidence of anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import SettingsError
from fedunlearn.strategies.decoupling import Ascent
from fedunlearn.strategies.option import number, positive

CLAIM_OPTIONS = frozenset({"epsilon", "delta", "gradient_bound", "convexity"})
DELTA = 1e-5


@dataclass(frozen=True)
class Claim:
    """The Gaussian mechanism on the one upload (Sekhari et al. 2021, Neel et al. 2021, as an (epsilon, delta) notion).

    Attributes:
        ascent: which bounds the displacement by eta x T_max x C.
        epsilon: above 0 and at most 1; None: no noise is added, and nothing is claimed.
        delta: above 0, below 1.
        gradient_bound: G, a bound on every sample's gradient that is assumed.
        convexity: mu, the strong convexity of the loss that is assumed.
    """

    ascent: Ascent
    epsilon: float | None
    delta: float
    gradient_bound: float
    convexity: float

    @staticmethod
    def of(settings: UnlearnSettings) -> Claim:
        """What the options say. Raises SettingsError."""
        epsilon = None if "epsilon" not in settings.options else positive(settings, "epsilon", 1.0, highest=1.0)
        delta = positive(settings, "delta", DELTA, highest=0.5)
        bound, convexity = number(settings, "gradient_bound", 0.0), number(settings, "convexity", 0.0)
        if epsilon is not None and not (bound and convexity):
            raise SettingsError(
                "epsilon: without a bound of the gradients and the loss's strong convexity there is no distance to the "
                "retrained model, and no noise that would do; give gradient_bound and convexity, which are assumed."
            )
        if epsilon is not None and settings.options.get("channels", "all") != "all":
            raise SettingsError(
                "epsilon: the noise must reach every parameter, and what is not selected would be the original's own; "
                "leave channels at all, or epsilon out."
            )
        return Claim(Ascent.of(settings), epsilon, delta, bound, convexity)

    def distance(self, forgotten: int, retained: int) -> float:
        """Delta = 2 G m / (mu n) + eta T_max C: how far the ascent may end from the retrained model.

        Args:
            forgotten: m, samples to forget.
            retained: samples that stay; n is both together.
        """
        apart = 2 * self.gradient_bound * forgotten / (self.convexity * (forgotten + retained))
        return apart + self.ascent.bound

    def deviation(self, forgotten: int, retained: int) -> float:
        """Sigma = Delta sqrt(2 ln(1.25 / delta)) / epsilon; 0 where nothing is claimed."""
        if self.epsilon is None:
            return 0.0
        return self.distance(forgotten, retained) * math.sqrt(2 * math.log(1.25 / self.delta)) / self.epsilon


def sentences(settings: UnlearnSettings) -> list[str]:
    """What is claimed with these settings and what it assumes, for people. Raises SettingsError."""
    claim = Claim.of(settings)
    ascent = claim.ascent
    moved = "the adapters' factors" if settings.options.get("channels") == "adapters" else "the parameters"
    told = [
        f"Displacement bound: the target's step moves {moved} by at most eta x T_max x C = {ascent.step:g} x "
        f"{ascent.most_steps} x {ascent.clip:g} = {ascent.bound:g} (Euclidean norm), whatever its data.",
        "That step is meant to go on until 95 % of the target's answers are displaced by lambda; where it tells a "
        "smaller share (displaced), it ran out of steps, or its answers came no farther: raise step or max_steps, or "
        "try a smaller step.",
    ]
    if claim.epsilon is None:
        return [*told, "Epsilon, delta: none. No noise was added (sigma = 0), and nothing of the kind is claimed."]
    told += [
        f"Epsilon = {claim.epsilon:g}, delta = {claim.delta:g}, with noise of sigma = Delta sqrt(2 ln(1.25 / delta)) / "
        f"epsilon on every parameter, Delta = 2 G m / (mu n) + {ascent.bound:g}; sigma itself is in the ledger. These "
        "numbers are nominal: they hold under the following assumptions, and no neural network meets the first two.",
        f"Assumed: the loss is {claim.convexity:g}-strongly convex, and original and retrained model minimise it.",
        f"Assumed: no sample's gradient is longer than {claim.gradient_bound:g} anywhere.",
        "Assumed: buffers that are no parameters (statistics of normalisation, codebooks that follow averages) hold "
        "nothing of the forget set: they get no noise.",
        "Assumed: threshold and number of steps, which were read off the original model, tell nothing of the forget "
        "set beyond the one upload; they are no part of the accounting.",
        "Assumed: one target asked. The mean of several targets' uploads has less noise than any of them, and n and m "
        "are each one's own, so that epsilon and delta do not hold for it.",
        "Assumed: that the model was accepted, for which its loss is compared with the original's, tells nothing of "
        "the forget set either; the setting class_harm = 1 leaves that comparison out.",
    ]
    if settings.options.get("stop") == "original":
        return [
            *told,
            "Broken: retention stops at the original's error (stop = original), so that it is no post-processing of "
            "the noised model, and epsilon and delta do not hold for its result.",
        ]
    return [
        *told,
        "Assumed: retention uses nothing of the original model: no distillation to it and no stopping at its error. It "
        "does not here, so that it is post-processing of the noised model.",
    ]
