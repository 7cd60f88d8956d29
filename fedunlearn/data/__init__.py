"""Data: where it comes from, how it is shared among clients, what a client plants and holds."""
