"""Measure a checkpoint: see swav_plugin/commands/test.py."""

from swav_plugin.commands.test import main

if __name__ == '__main__':
    main()
