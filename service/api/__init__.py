"""The server: a finder over HTTP, behind a gate with limits."""

from service.api.app import make_app
from service.api.gate import Gate
from service.api.limits import Limits
from service.api.metrics import Metrics

__all__ = ["Gate", "Limits", "Metrics", "make_app"]
