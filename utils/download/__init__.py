"""Files of others on the network: where they are, and how they are fetched, checked and kept."""

from utils.download.fetching import Fetch, fetch_by_gdown, pull_by_dvc
from utils.download.keeping import download_source
from utils.download.source import Source

__all__ = ["Fetch", "Source", "download_source", "fetch_by_gdown", "pull_by_dvc"]
