"""Runs a command that does not outlive whoever started this: ``python leash.py COMMAND ...``.

Standard input is a pipe whose other end the starter alone holds; it closes when the starter is killed, too. All
processes of this group, which the starter made for it, are then killed: the command, what it started, and this one.
The command inherits every other open file, so that a lock among them is held until the last of its processes is gone.
"""

import os
import signal
import subprocess
import sys
import threading


def main(command: list[str]) -> int:
    """The command's exit code."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, close_fds=False)
    threading.Thread(target=_watch, daemon=True).start()
    return process.wait()


def _watch() -> None:
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
