"""Run every benchmark whose data is present, and lay the numbers out.

python tools/benchmarks/run_suite.py CHECKPOINT --root data --out DIR
"""

import swav_plugin  # noqa: F401 isort:skip  says what is not installed

from swav_plugin.commands.suite import main

if __name__ == '__main__':
    main()
