"""The subcommands of `ipckit`, one in each module."""
