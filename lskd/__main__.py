"""``python -m lskd`` is the ``lskd`` command."""

from lskd.commands.main import main

if __name__ == "__main__":
    main()
