"""Report the progress of a training of the translation demo: from fairseq's JSON log to a line per epoch."""

import json
import re
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm


class LogReader:
    """Reads the log of one ``fairseq-train --log-format json`` while it runs.

    Args:
        name: of the model.
        epochs: of the whole training.
        done: epochs that it had finished before it was started.
        teacher: what to say about the teacher; empty without one.
        say: gets a line at the start (parameters, data, teacher) and one after each epoch: the losses and the
            perplexity as fairseq has them (in bits), target words per second, and the time left if all epochs take as
            long as those of this process.
        clock: seconds.
    """

    def __init__(
        self,
        name: str,
        epochs: int,
        done: int,
        teacher: str,
        say: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.epochs, self.done, self.teacher = name, epochs, done, teacher
        self.say, self.clock = say, clock
        self.parameters = 0
        self.pairs: dict[str, int] = {}  # by split
        self.valid: dict[str, Any] = {}  # the latest validation
        self.began: float | None = None  # the first step
        self.progress: float = done  # in epochs

    def read(self, line: str) -> None:
        """Take a line of the log."""
        if found := re.search(r"num\. shared model params: ([\d,]+)", line):
            self.parameters = int(found[1].replace(",", ""))
        elif found := re.search(r" \| \S+ (\w+) \w+-\w+ (\d+) examples$", line.rstrip()):
            self.pairs[found[1]] = int(found[2])
        elif line.rstrip().endswith("Start iterating over samples") and self.began is None:  # logged in each epoch
            self.began = self.clock()
            data = ", ".join(f"{count} {split} pairs" for split, count in sorted(self.pairs.items()))
            parts = [f"{self.parameters / 1e6:.2f} M parameters", data, *([self.teacher] if self.teacher else [])]
            self.say(f"{self.name:<24}  {'; '.join(parts)}")
        elif logged := values(line):
            self.progress = min(logged.get("update", self.progress), self.epochs)
            if "valid_loss" in logged:
                self.valid = logged
            elif "train_loss" in logged:
                self.progress = logged["epoch"]
                self.say(self.epoch_line(logged))

    def epoch_line(self, trained: dict[str, Any]) -> str:
        """The line of an epoch, from fairseq's values of its training and of the latest validation."""
        epoch = trained["epoch"]
        now = self.clock()
        left = (now - (self.began or now)) / max(epoch - self.done, 1) * (self.epochs - epoch)
        cells = [f"{self.name:<24}", f"epoch {epoch:>{len(str(self.epochs))}}/{self.epochs}"]
        cells.append(f"loss {trained['train_loss']:>6}")
        for label, key in (("valid loss", "valid_loss"), ("perplexity", "valid_ppl"), ("BLEU", "valid_bleu")):
            cells += [f"{label} {self.valid[key]:>6}"] if key in self.valid else []
        cells += [f"lr {float(trained['train_lr']):<8.3g}", f"{float(trained['train_wps']):>6.0f} words/s"]
        return "  ".join([*cells, f"{tqdm.format_interval(left)} left"])


def values(line: str) -> dict[str, Any]:
    """The values in a line of fairseq's JSON log; none in any other line.

    >>> values('2026-11-28 22:01:40 | INFO | valid | {"epoch": 1, "valid_ppl": "93.1"}')
    {'epoch': 1, 'valid_ppl': '93.1'}
    """
    before, brace, rest = line.partition("{")
    try:
        return json.loads(brace + rest) if "| INFO | " in before else {}
    except ValueError:
        return {}
