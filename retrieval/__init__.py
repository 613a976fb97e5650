"""What happens once features exist: distances, metrics, re-ranking. Needs no model, configuration or GPU."""

from retrieval.distance import squared_euclidean
from retrieval.features import FeatureSet
from retrieval.metrics import RetrievalMetrics, evaluate, evaluate_task
from retrieval.neighbours.clustering import Agreement, agreement, cluster
from retrieval.neighbours.jaccard import jaccard_graph
from retrieval.neighbours.reranking import k_reciprocal_blocks, k_reciprocal_distance
from retrieval.report import log_metrics, metrics_record, write_metrics
from retrieval.task import RetrievalTask, TrialRows

__all__ = [
    "Agreement",
    "FeatureSet",
    "RetrievalMetrics",
    "RetrievalTask",
    "TrialRows",
    "agreement",
    "cluster",
    "evaluate",
    "evaluate_task",
    "jaccard_graph",
    "k_reciprocal_blocks",
    "k_reciprocal_distance",
    "log_metrics",
    "metrics_record",
    "squared_euclidean",
    "write_metrics",
]
