"""What `ipckit top` shows."""
