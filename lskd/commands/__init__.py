"""The ``lskd`` command (``main.py``), its subcommands, a module of its name for each, and what several of them use."""
