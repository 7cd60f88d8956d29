"""Methods against each other: who takes part, within which budget, tuned on what, on which forget set."""
