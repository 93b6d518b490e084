"""ProcessQueue, a multiprocessing.Queue over a channel."""
