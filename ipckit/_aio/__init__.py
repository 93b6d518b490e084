"""Handles in an event loop: asyncio's or trio's."""
