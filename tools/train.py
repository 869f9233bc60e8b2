"""Train what a config describes: see swav_plugin/commands/train.py."""

from swav_plugin.commands.train import main

if __name__ == '__main__':
    main()
