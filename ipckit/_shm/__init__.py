"""Shared memory: System V's, POSIX's, memfds and mapped files."""
