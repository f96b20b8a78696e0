"""Files from one `Result`: label map, overlay, JSON, COCO, YOLO, arrays, masks, segments."""
