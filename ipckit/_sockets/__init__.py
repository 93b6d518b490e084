"""UNIX domain sockets, and frames on a byte stream."""
