"""One module for each command: `swav NAME ...` runs `commands/NAME.py`."""
