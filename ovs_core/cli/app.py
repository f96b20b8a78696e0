"""Serve the page: `ovs-lens app`, or `python app.py` in a clone. Nothing leaves this machine."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from ovs_core.cli.address import check_address, check_root_path, except_own_address, exposure, read_auth
from ovs_core.cli.arguments import EXIT_BAD_INPUT, EXIT_INTERRUPTED, OneLineParser
from ovs_core.cli.loading import no_garbage_collected
from ovs_core.cli.options import add_machine_options, engine_for
from ovs_core.cli.streams import lasting_output
from ovs_core.image import read_photo
from ovs_core.methods import METHODS


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the page until Ctrl+C or the signal TERM; returns the exit code.

    Args:
        argv: arguments; None takes the command line's.
    """
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl+C, and clears up
    try:
        auth = read_auth(arguments.auth)
        root_path = check_root_path(arguments.root_path)
        check_address(arguments.host, arguments.port)
        if arguments.photo is not None:
            read_photo(arguments.photo)
        for name in except_own_address(os.environ, arguments.host):
            print(
                f"{name} is left out: only proxies of the form http://host:port can be used.", file=sys.stderr
            )
        with TemporaryDirectory(prefix="ovs-lens-", ignore_cleanup_errors=True) as folder:
            # Gradio's own folder is shared by all programs: one that ends deletes what others still show.
            os.environ.setdefault("GRADIO_TEMP_DIR", folder)
            _serve(arguments, auth, root_path)
    except (ValueError, OSError) as error:
        print(f"ovs-lens app: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:  # before the page was served
        return EXIT_INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="ovs-lens app", description="Open-vocabulary segmentation in the browser.")
    add = parser.add_argument
    add("photo", nargs="?", type=Path, metavar="PHOTO", help="picture that the page opens with")
    add("--classes", default="", help='class names that the page opens with: "dog; grass; sky | clouds"')
    add("--method", default="", choices=METHODS, metavar="NAME", help="method that the page opens with")
    add("--host", default="127.0.0.1", help="interface to listen on (default: this machine only)")
    add("--port", type=int, help="port (default: the first free one from 7860)")
    add(
        "--auth",
        metavar="USER:PASSWORD",
        help="ask visitors for these; better @FILE with them in it, or the variable OVS_LENS_AUTH",
    )
    add("--root-path", metavar="PATH", help="where a proxy serves the page, for example /lens")
    add("--mcp", action="store_true", help="serve /mcp, too: a tool for programs with a language model")
    add("--no-browser", action="store_true", help="do not open a browser window")
    add_machine_options(parser)
    return parser


def _serve(arguments: argparse.Namespace, auth: tuple[str, str] | None, root_path: str | None) -> None:
    """Serve the page until interrupted."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported, which is now
    with no_garbage_collected():
        from ovs_core.ui.app import build_ui, launch
        from ovs_core.ui.inputs import Opening

    engine = engine_for(arguments)
    print(engine.describe_weights())
    photo = arguments.photo
    page = build_ui(engine, opening=Opening(str(photo or ""), arguments.classes, arguments.method))
    address = launch(
        page,
        host=arguments.host,
        port=arguments.port,
        browser=not arguments.no_browser,
        auth=auth,
        root_path=root_path,
        engine=engine,
        shown=() if photo is None else (photo,),
        mcp=arguments.mcp,
    )
    warning = exposure(arguments.host, auth)
    if warning:
        print(warning, file=sys.stderr)
    print(f"OVS Lens is at {address} (Ctrl+C stops it)", flush=True)
    page.block_thread()


if __name__ == "__main__":
    with lasting_output():
        sys.exit(main())
