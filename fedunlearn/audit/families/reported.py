"""Figures that a comparison reports of every model; an audit measures none of them by name."""

from __future__ import annotations

from fedunlearn.audit.metric import Metric

METRICS = (
    Metric("test_accuracy", "Share of unseen test samples answered correctly, 0 to 1."),
    Metric("test_accuracy_by_class", "The same for each class by itself, 0 to 1."),
    Metric("retain_accuracy", "Share of the remaining training data answered correctly, 0 to 1."),
    Metric("forget_accuracy", "Share of the forget set that still gets its recorded label, by part, 0 to 1."),
    Metric("forget_loss", "Mean log-loss on the forget set, by part, 0 upwards; low means still remembered."),
    Metric("forgotten_classes_accuracy", "Test accuracy on the classes of the request, 0 to 1."),
    Metric("backdoor_success", "Share of stamped test samples of other classes called the target, 0 to 1."),
    Metric("canary_exposure", "Share of other wrong labels that a canary's wrong label outranks; chance is 0.5."),
    Metric("probe_accuracy", "Accuracy of a new output layer on the frozen features, 0 to 1."),
    Metric("relearn_steps", "Training steps that bring the forget set back; pools data, in simulation only."),
    Metric("cost", "Rounds, client epochs, bytes and seconds after the request.", better="lower"),
)
