"""The server side: the run folder, its models and ledger, and the life of a deletion request."""
