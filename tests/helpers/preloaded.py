"""What the process that commands are forked from has imported; importing this imports it.

None of it is garbage, so the collector is told to look elsewhere: else each forked command would look through all of
it, and so make a copy of every page that holds an object.
"""

import gc
import importlib

gc.disable()
for _name in (
    "fairseq_cli.train",
    "fairseq_cli.generate",
    "fairseq_cli.preprocess",
    "timm",
    "timm.data",
    "torchvision",
    "sacrebleu",
    "sklearn",
):
    importlib.import_module(_name)
gc.freeze()
gc.enable()
