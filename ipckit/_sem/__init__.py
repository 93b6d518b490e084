"""Semaphores, and the locks that are built on them."""
