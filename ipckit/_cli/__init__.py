"""The command `ipckit`."""
