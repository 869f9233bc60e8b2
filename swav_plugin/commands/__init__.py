"""One module for each command: `python -m swav_plugin.commands.NAME`."""
