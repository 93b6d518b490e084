"""The channel in shared memory."""
