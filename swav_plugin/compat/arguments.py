"""Suggest what a misspelt argument may have been, as Python 3.15 does."""

import argparse
import difflib
import re
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """A parser of command lines, for all commands.

    >>> parser = Parser(prog='swav', usage='swav', exit_on_error=False)
    >>> _ = parser.add_argument('--only', choices=['knn', 'svm'])
    >>> parser.describe('unrecognized arguments: --onyl')
    'unrecognized arguments: --onyl; did you mean --only?'
    """

    def error(self, message: str) -> NoReturn:
        """End with a message of argparse, and with what may be meant."""
        super().error(self.describe(message))

    def describe(self, message: str) -> str:
        """Return a message of argparse, and what may be meant."""
        if 'maybe you meant' in message:
            return message
        argument = re.match(r'argument (\S+?):', message)
        choice = re.search(r"invalid choice: '?(.+?)'? \(", message)
        words, known = [], [*self._option_string_actions]
        if argument and choice:
            words = [choice[1]]
            known = [
                str(each)
                for action in self._actions
                if argument[1]
                in ('/'.join(action.option_strings), action.metavar)
                or argument[1] == action.dest
                for each in action.choices or ()
            ]
        elif message.startswith('unrecognized arguments: '):
            given = message.partition(': ')[2].split()
            words = [
                word.partition('=')[0] for word in given if word[:2] == '--'
            ]
        close = [
            match
            for word in words
            for match in difflib.get_close_matches(word, known, n=1)
        ]
        return message + f'; did you mean {", ".join(close)}?' * bool(close)
