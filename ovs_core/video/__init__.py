"""Clips: frames in, labelled frames out; a loop round the engine."""
