"""What `fuzz.py` is made of: how files are damaged, who reads them, and the processes that try it."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The whole files that are damaged are those of the tests.
for each in ("", "data_prep", "scripts", "tests", "tests/lskd", "tests/lskd_fairseq", "tests/data_prep"):
    if str(ROOT / each) not in sys.path:
        sys.path.append(str(ROOT / each))
