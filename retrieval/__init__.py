"""Retrieval from features: distances, metrics, re-ranking, clusters, thresholds. Needs no model or GPU."""

from retrieval.attributes import attribute_probabilities, fuse
from retrieval.bootstrap import Difference, Interval, check_rounds, metric_intervals, paired_differences
from retrieval.distance import Blocks, Rerank, squared_euclidean
from retrieval.features import FeatureSet
from retrieval.index import SPACES, Gallery
from retrieval.labels import LabelNames
from retrieval.metrics import (
    QueryScores,
    RetrievalMetrics,
    evaluate,
    evaluate_task,
    evaluate_text_search,
    score_queries,
)
from retrieval.neighbours.clustering import Agreement, agreement, cluster
from retrieval.neighbours.jaccard import jaccard_graph
from retrieval.neighbours.reranking import k_reciprocal_blocks, k_reciprocal_distance
from retrieval.ranking import RankedImage, Ranking, rank_gallery, worst_queries
from retrieval.report import log_metrics, metrics_lines, metrics_record, write_metrics
from retrieval.rules import RULES, find_rule, have_match, match_shares, why_no_match
from retrieval.store.entries import Entry, Hit, Metadata, SpaceModel, checked_text
from retrieval.store.space import INDEXES, MOST_HITS
from retrieval.task import RetrievalTask, TrialFeatures, TrialRows
from retrieval.thresholds.operating_points import (
    AcceptRates,
    OpenSetPoint,
    OpenSetRates,
    OperatingPoint,
    accept_rates,
    open_set_points,
    open_set_rates,
    operating_points,
)
from retrieval.thresholds.pair_scores import PairScores, score_pairs
from utils.picture_names import name_pictures

__all__ = [
    "INDEXES",
    "MOST_HITS",
    "RULES",
    "SPACES",
    "AcceptRates",
    "Agreement",
    "Blocks",
    "Difference",
    "Entry",
    "FeatureSet",
    "Gallery",
    "Hit",
    "Interval",
    "LabelNames",
    "Metadata",
    "OpenSetPoint",
    "OpenSetRates",
    "OperatingPoint",
    "PairScores",
    "QueryScores",
    "RankedImage",
    "Ranking",
    "Rerank",
    "RetrievalMetrics",
    "RetrievalTask",
    "SpaceModel",
    "TrialFeatures",
    "TrialRows",
    "accept_rates",
    "agreement",
    "attribute_probabilities",
    "check_rounds",
    "checked_text",
    "cluster",
    "evaluate",
    "evaluate_task",
    "evaluate_text_search",
    "find_rule",
    "fuse",
    "have_match",
    "jaccard_graph",
    "k_reciprocal_blocks",
    "k_reciprocal_distance",
    "log_metrics",
    "match_shares",
    "metric_intervals",
    "metrics_lines",
    "metrics_record",
    "name_pictures",
    "open_set_points",
    "open_set_rates",
    "operating_points",
    "paired_differences",
    "rank_gallery",
    "score_pairs",
    "score_queries",
    "squared_euclidean",
    "why_no_match",
    "worst_queries",
    "write_metrics",
]
