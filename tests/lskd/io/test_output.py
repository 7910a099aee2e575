"""Lines on standard output."""

import io

from lskd.io.output import say


def test_a_line_is_written_at_once(monkeypatch):
    class Buffered(io.StringIO):
        written = ""

        def flush(self) -> None:
            self.written = self.getvalue()

    output = Buffered()
    monkeypatch.setattr("sys.stdout", output)
    say("epoch 1/2")
    assert output.written == "epoch 1/2\n"
