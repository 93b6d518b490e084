"""The IPC objects that exist, and the processes that hold them."""
