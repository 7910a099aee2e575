"""The subcommands of ``lskd``: each file has the name of its command."""
