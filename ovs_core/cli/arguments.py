"""What the commands share: exit codes, and a parser that says what is wrong in one line."""

from __future__ import annotations

import argparse
from typing import NoReturn

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130  # the shell's number for Ctrl-C


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line instead of a page."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_BAD_INPUT, f"{message}. See --help.\n")
