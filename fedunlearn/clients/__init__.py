"""The client side: what a client keeps to itself, and what it does with a message."""
