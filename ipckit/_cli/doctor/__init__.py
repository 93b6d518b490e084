"""The checks of `ipckit doctor`."""
