"""The topic in shared memory."""
