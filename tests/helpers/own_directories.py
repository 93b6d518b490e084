"""Code for a child in a sandbox: the directories that other programs leave sockets in, empty."""

from __future__ import annotations

OWN_DIRECTORIES = """
import os, pathlib, subprocess, ipckit
# A checkout may stand in one of them, and stays where it is.
home = str(pathlib.Path(ipckit.__file__).parents[1])
held = os.open(home, os.O_PATH)
for directory in ("/run", "/tmp", "/var/tmp"):
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", directory], check=True)
if not os.path.exists(home):
    os.makedirs(home)
    source = f"/proc/self/fd/{held}"
    subprocess.run(["mount", "-c", "--bind", source, home], check=True, pass_fds=[held])
os.close(held)
"""
