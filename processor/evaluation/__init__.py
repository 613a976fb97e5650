"""Features of images and texts, and the evaluation made of them."""

from processor.evaluation.extract import extract, label_names, make_task, queries_with_match, require_matches
from processor.evaluation.sentences import are_cut, extract_sentences
from processor.evaluation.streams import Evaluation, ImageToImage, Stream, extract_streams
from processor.evaluation.text_to_image import TextToImage
from processor.evaluation.views import image_encoder, with_second_view

__all__ = [
    "Evaluation",
    "ImageToImage",
    "Stream",
    "TextToImage",
    "are_cut",
    "extract",
    "extract_sentences",
    "extract_streams",
    "image_encoder",
    "label_names",
    "make_task",
    "queries_with_match",
    "require_matches",
    "with_second_view",
]
