"""`ProcessPool`: run functions in worker processes, and continue when a worker dies."""
