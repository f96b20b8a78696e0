"""Clips made in a test: blocks of colour that move, with sound, turned, broken, of variable frame rate."""

from fractions import Fraction

import av
import numpy as np

RATE = Fraction(30000, 1001)


def moving_blocks(count, size=(48, 64), step=2, seed=0):
    """Frames (count, H, W, 3) of a texture that moves right by `step` pixels a frame."""
    rng = np.random.default_rng(seed)
    wide = rng.integers(0, 256, (size[0] // 8, size[1] // 8 + count, 3), np.uint8)
    texture = wide.repeat(8, axis=0).repeat(8, axis=1)
    offset = step * count
    starts = [offset - step * i for i in range(count)]
    return np.stack([texture[:, start : start + size[1]] for start in starts])


def write_clip(path, frames, rate=RATE, *, times=None, sound=None, rotation=0, codec="libx264"):
    """Write frames (n, H, W, 3); `times` are ticks of 1 / 1000 seconds, `sound` an audio codec."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if codec == "libx264":
            stream.options = {"crf": "10", "bf": "0", "g": "1"}  # every frame stands alone
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        track = None if sound is None else output.add_stream(sound, rate=48000)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
        if track is not None:
            _write_sound(output, track, float(len(frames) / rate))
    return path


def _write_sound(output, track, seconds):
    samples = np.sin(np.arange(int(48000 * seconds)) / 30).astype(np.float32)
    size = 1024
    for start in range(0, len(samples) - size, size):
        chunk = samples[start : start + size][None]
        if track.codec_context.name == "pcm_s16le":
            chunk = (chunk * 20000).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(chunk, format="s16", layout="mono")
        else:
            frame = av.AudioFrame.from_ndarray(chunk, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        output.mux(track.encode(frame))
    output.mux(track.encode())


def read_back(path):
    """Times in seconds, (H, W), mean frame rate, and seconds and codec of the sound of a file."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate
        frames = [(float(frame.time), (frame.height, frame.width)) for frame in container.decode(stream)]
    times = [time for time, _ in frames]
    sound, codec = 0.0, None
    with av.open(str(path)) as container:
        if container.streams.audio:
            codec = container.streams.audio[0].codec_context.name
            for frame in container.decode(container.streams.audio[0]):
                sound = max(sound, float(frame.time) + frame.samples / frame.sample_rate)
    return times, frames[0][1], rate, sound, codec
