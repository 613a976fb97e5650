"""What happens once features exist: distances, metrics, re-ranking. Needs no model, configuration or GPU."""

from retrieval.distance import squared_euclidean
from retrieval.features import FeatureSet
from retrieval.metrics import RetrievalMetrics, evaluate
from retrieval.reranking import k_reciprocal_distance
from retrieval.task import RetrievalTask, TrialRows

__all__ = [
    "FeatureSet",
    "RetrievalMetrics",
    "RetrievalTask",
    "TrialRows",
    "evaluate",
    "k_reciprocal_distance",
    "squared_euclidean",
]
