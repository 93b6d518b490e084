"""Bridges: channels and topics that continue on other machines, carried by existing engines."""
