"""Calls between processes: services and their clients."""
