"""Code for a child whose sandbox imitates a separate machine."""

from __future__ import annotations

# The directories that other programs leave sockets in are empty; `start` forks a process that acts,
# and goes on when it says so or has ended.
OWN_MACHINE = """
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

def start(act):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            act(lambda: os.write(writer, b"."))
        finally:
            os._exit(0)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
    return pid
"""
