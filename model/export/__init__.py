"""Models as files for other programs: ONNX and torch's own programs."""
