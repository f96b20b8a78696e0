"""Segment clips: `python -m ovs_core.cli.video CLIP... --classes "dog; grass; sky" --out DIR`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from tqdm import tqdm  # type: ignore[import-untyped]

from ovs_core.cli.arguments import EXIT_BAD_INPUT, EXIT_INTERRUPTED, OneLineParser
from ovs_core.cli.exemplars import add_exemplar_option, read_exemplars
from ovs_core.cli.options import (
    EXIT_SOME_FAILED,
    add_machine_options,
    add_method_options,
    chosen_options,
    engine_for,
    say,
    write_line,
)
from ovs_core.engine import Engine
from ovs_core.methods import DEFAULT_METHOD
from ovs_core.types import Vocabulary
from ovs_core.video.clips import VideoError
from ovs_core.video.segment import VideoResult, VideoSettings, segment_video
from ovs_core.video.smoothing import Smoothing
from ovs_core.vocabulary.exemplars import Exemplar, asked_vocabulary

CACHE_BYTES = 256 << 20  # frames are seen once: what is worth keeping is the text


def main(argv: Sequence[str] | None = None, engine: Engine | None = None) -> int:
    """Segment every clip; returns the exit code.

    0: all done. 1: some clips could not be done, the others are. 2: bad input, one line on stderr. 130:
    stopped by Ctrl-C.

    Args:
        argv: arguments; None takes the command line's.
        engine: None makes one as the arguments say.
    """
    arguments = _parser(engine).parse_args(argv)
    done, wanted = 0, 0
    try:
        exemplars = read_exemplars(arguments.exemplar)
        names = [exemplar.name for exemplar in exemplars]
        vocabulary = asked_vocabulary(arguments.classes, names, arguments.background)
        if engine is None:
            engine = engine_for(arguments, cache_bytes=CACHE_BYTES)
        tasks = _tasks(arguments, exemplars, engine)
        say(*vocabulary.notes)
        wanted = len(arguments.clips) * len(tasks)
        for clip in arguments.clips:
            for settings in tasks:
                done += _segment(clip, settings, vocabulary, arguments, engine)
    except ValueError as error:
        say(str(error))
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        say(f"Stopped; {done} of {wanted} clips are done.")
        return EXIT_INTERRUPTED
    if done < wanted:
        say(f"{wanted - done} of {wanted} clips could not be done.")
        return EXIT_SOME_FAILED
    return 0


def _parser(engine: Engine | None) -> argparse.ArgumentParser:
    parser = OneLineParser(prog="ovs-lens video", description="Segment the frames of clips by typed classes.")
    add = parser.add_argument
    add("clips", nargs="+", type=Path, metavar="CLIP", help="video file, or folder of frames")
    add("--classes", default="", help='"dog; grass; sky | clouds", @FILE, or a list such as @voc20')
    add_exemplar_option(parser)
    add("--out", required=True, type=Path, metavar="DIR", help="folder to write into")
    add_method_options(parser, engine)
    add("--background", default="default", metavar="TEXT", help='names that mean "none of these", or none')
    add(
        "--smoothing",
        type=float,
        default=0.0,
        metavar="X",
        help="weight of the frames before, 0 to below 1; default: 0, every frame alone",
    )
    add("--along-motion", action="store_true", help="carry what was before along the motion in the clip")
    add("--frame-rate", type=_rate, metavar="FPS", help="frames a second of a folder; default: 25")
    add_machine_options(parser)
    return parser


def _rate(text: str) -> Fraction:
    """Frames a second, as 25, 29.97 or 30000/1001."""
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}") from error
    if not rate > 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text!r}")
    return rate


def _tasks(
    arguments: argparse.Namespace, exemplars: tuple[Exemplar, ...], engine: Engine
) -> list[VideoSettings]:
    """What is asked of every frame, method by method.

    Raises:
        ValueError: for a method that cannot be asked here, or a setting out of range.
    """
    methods = tuple(arguments.method or (DEFAULT_METHOD,))
    known = {info.name: info for info in engine.methods(arguments.encoder)}
    for method in methods:
        if not known[method].available:
            raise ValueError(known[method].reason)
    options = chosen_options(arguments, engine, methods)
    smoothing = Smoothing(arguments.smoothing, arguments.along_motion)
    return [
        VideoSettings(
            method, arguments.encoder, arguments.refine, options[method], smoothing, exemplars=exemplars
        )
        for method in methods
    ]


def _segment(
    clip: Path,
    settings: VideoSettings,
    vocabulary: Vocabulary,
    arguments: argparse.Namespace,
    engine: Engine,
) -> bool:
    """Do one clip; False, with a line on stderr, where the clip is the obstacle."""
    try:
        events = segment_video(
            engine, clip, vocabulary, arguments.out, settings, frame_rate=arguments.frame_rate
        )
        with tqdm(unit="frame", desc=clip.name, disable=None) as bar:
            for event in events:
                if isinstance(event, VideoResult):
                    write_line(_summary(event), sys.stdout)
                    say(*(f"{clip.name}: {note}" for note in event.notes if note not in vocabulary.notes))
                else:
                    bar.total = event.total
                    bar.update(event.done - bar.n)
    except VideoError as error:
        say(f"Skipped {clip}: {error}")
        return False
    return True


def _summary(result: VideoResult) -> str:
    """One line for stdout: the file, how long it took and how quiet it is."""
    flicker = "" if result.flicker is None else f", flicker {result.flicker:.2%}"
    pace = result.frames / result.seconds if result.seconds else 0.0
    return f"{result.video.name}: {result.frames} frames, {pace:.1f} a second{flicker}"


if __name__ == "__main__":
    sys.exit(main())
