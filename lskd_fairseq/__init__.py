"""Distillation of Transformers with fairseq.

Give this directory to any fairseq command as ``--user-dir``. Importing it registers the criterion ``label_smoothed_kd``
(also ``kd``) and the task ``label_smoothed_kd`` (also ``translation_kd``), and installs the few changes to fairseq that
:mod:`lskd_fairseq.hooks` lists with their reasons.
"""

try:
    import fairseq  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"lskd_fairseq needs fairseq ({error}): pip install '.[nmt]'") from None

from lskd_fairseq import criterion, hooks, task  # noqa: F401

hooks.install()
