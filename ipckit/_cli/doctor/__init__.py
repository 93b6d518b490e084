"""What `ipckit doctor` examines."""
