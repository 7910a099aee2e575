"""The subcommands of ``lskd``: the file is named as the command is."""
