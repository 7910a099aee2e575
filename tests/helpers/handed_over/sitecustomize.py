"""Let a test fork this program in the place of starting it: see ``hand_over`` in forked_commands.

Every Python that is started with this directory on its path runs this first.
"""

import os
import sys

PACKAGES = {"lskd", "lskd_fairseq", "lskd_vision", "fairseq_cli"}
PROGRAMS = ("fairseq-", "lskd")


def words() -> list[str] | None:
    """The words of the program if it is one of ours or of fairseq's, without the interpreter of console scripts."""
    _, *rest = sys.orig_argv
    if rest[:1] == ["-m"]:
        return ["python", *rest] if rest[1].split(".")[0] in PACKAGES else None
    script = rest[0] if rest else ""
    if os.path.basename(os.path.dirname(script)) == "data_prep":
        return ["python", *rest]
    return rest if os.path.basename(script).startswith(PROGRAMS) else None


def hand_over(program: list[str]) -> None:
    """Have it forked, pass signals on to it, and end as it does."""
    import json
    import signal
    import socket

    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ["LSKD_TESTS_FORK"])
        message = json.dumps([program, os.getcwd(), dict(os.environ), sys.path]).encode()
        socket.send_fds(connection, [len(message).to_bytes(8, "big")], [1, 2])
        connection.sendall(message)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: connection.send(bytes([number])))
        status = int(connection.recv(16))
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


if "LSKD_TESTS_FORK" in os.environ and (program := words()):
    hand_over(program)
