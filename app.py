"""Start OVS Lens: `python app.py`, then open the address it prints. Nothing leaves this machine."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported

from ovs_core.devices import DEVICES
from ovs_core.engine import Engine
from ovs_core.ui.app import build_ui, launch


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Open-vocabulary segmentation in the browser.")
    parser.add_argument(
        "--host", default="127.0.0.1", help="interface to listen on (default: this machine only)"
    )
    parser.add_argument("--port", type=int, help="port (default: the first free one from 7860)")
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser window")
    parser.add_argument("--weights-dir", type=Path, help="folder with weight files, looked at first")
    parser.add_argument("--offline", action="store_true", help="never fetch anything")
    parser.add_argument("--device", default="auto", choices=DEVICES, help="where the models run")
    return parser.parse_args(arguments)


def serve(options: argparse.Namespace) -> None:
    """Serve the page until interrupted."""
    engine = Engine(device=options.device, weights_dir=options.weights_dir, offline=options.offline)
    print(engine.describe_weights())
    page = build_ui(engine)
    address = launch(page, host=options.host, port=options.port, browser=not options.no_browser)
    print(f"OVS Lens is at {address} (Ctrl+C stops it)", flush=True)
    page.block_thread()


def main(arguments: list[str]) -> int:
    """Serve the page until interrupted; gives the exit code."""
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        with TemporaryDirectory(prefix="ovs-lens-", ignore_cleanup_errors=True) as folder:
            # Gradio's own folder is shared by all programs: one that ends deletes what others still show.
            os.environ.setdefault("GRADIO_TEMP_DIR", folder)
            serve(options)
    except (ValueError, OSError) as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
