"""Parts of the way from a video to crops: frames, boxes of detectors, tracks."""
