"""Print this package's directory, for ``--user-dir "$(python -m lskd_fairseq)"`` from any working directory."""

from pathlib import Path

print(Path(__file__).resolve().parent)
