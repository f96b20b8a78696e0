"""Start OVS Lens from a clone: `python app.py`, then open the address it prints (as `ovs-lens app`)."""

from __future__ import annotations

import sys

from ovs_core.cli.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["app", *sys.argv[1:]]))
