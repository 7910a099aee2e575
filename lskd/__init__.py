"""What both sides of the project share: the distillation loss, and the record that a run leaves.

Importing this package needs nothing but the standard library; modules that work on tensors import torch themselves.
"""

__version__ = "0.1.0"
