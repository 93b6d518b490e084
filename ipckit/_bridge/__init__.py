"""Bridges: carry the messages of channels and topics to other machines, over NATS or zenoh."""
