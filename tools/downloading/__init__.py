"""What `tools/download.py` fetches besides data sets."""

from tools.downloading.weights import WEIGHTS, check_json, check_weights

__all__ = ["WEIGHTS", "check_json", "check_weights"]
