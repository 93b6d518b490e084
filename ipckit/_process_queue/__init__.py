"""`ProcessQueue`, which replaces multiprocessing.Queue, over a channel."""
