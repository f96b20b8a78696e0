"""Segment Anything: look at a photo once, then ask for masks by points, boxes, coarse masks or a grid."""
