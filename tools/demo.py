"""Pretrain on a small set: see swav_plugin/commands/demo.py."""

from swav_plugin.commands.demo import main

if __name__ == '__main__':
    main()
