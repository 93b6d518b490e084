"""The rows and the screen of `ipckit top`."""
