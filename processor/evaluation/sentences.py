"""Features of sentences that no data set holds, as a user types them."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from datasets import CaptionBatch, CaptionRecord, clean_caption, collate_captions, count_words
from model import DualModel, cut_to_longest
from processor.evaluation.extract import extract, label_names
from retrieval import FeatureSet
from utils.labels import NO_PID
from utils.precision import Precision
from utils.text import composed, quoted

_logger = logging.getLogger("transreid.sentences")


def encode_captions(model: DualModel, batch: CaptionBatch) -> Tensor:
    """Features (B, P) of the captions of a batch, not normalised."""
    tower = model.encode_text
    tokens = cut_to_longest(*tower.tokenizer(batch.captions))
    return tower(tokens.to(batch.pids.device, non_blocking=True))


def extract_sentences(
    model: DualModel,
    sentences: Sequence[str | CaptionRecord],
    device: torch.device,
    *,
    batch_size: int = 256,
    precision: Precision | None = None,
    private: bool = False,
) -> FeatureSet:
    """Features (N, P) of sentences, rows of L2 norm 1; `names` has the sentences.

    They are cleaned as captions in training, with letters in Unicode's composed form (NFC). A sentence names
    itself: its key and path are its text in that form, its identity is unknown; a record keeps its own. A
    warning names those with more tokens than the model has positions, or, if `private`, does not name them.
    Raises ValueError for no sentence, and for one of which cleaning leaves nothing.
    """
    records = [_record(sentence) for sentence in sentences]
    clean = [record._replace(caption=_cleaned(record.caption)) for record in records]
    tokenizer = model.encode_text.tokenizer
    for record, is_cut in zip(records, are_cut(model, [each.caption for each in clean]), strict=True):
        if is_cut:
            _logger.warning(
                "only the first %d tokens of %s are read: it has more",
                *(tokenizer.context_length, "a sentence" if private else quoted(record.caption)),
            )
    batches = [collate_captions(clean[i : i + batch_size]) for i in range(0, len(clean), batch_size)]
    features = extract(
        model, batches, device, lambda batch: encode_captions(model, batch), precision=precision
    )
    # Names of pictures, so that nothing looks for an image file of a sentence.
    pictures = [hashlib.sha256(record.caption.encode()).hexdigest() for record in records]
    return replace(features.normalized(), pictures=pictures, names=label_names(records))


def are_cut(model: DualModel, sentences: Sequence[str]) -> list[bool]:
    """Whether the model reads only the beginning of each sentence; raises as `extract_sentences`."""
    return model.encode_text.tokenizer.are_cut([_cleaned(sentence) for sentence in sentences])


def _record(sentence: str | CaptionRecord) -> CaptionRecord:
    if isinstance(sentence, CaptionRecord):
        return sentence
    sentence = composed(sentence)
    return CaptionRecord(sentence, NO_PID, sentence, "", sentence)


def _cleaned(sentence: str) -> str:
    try:
        sentence.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"sentence {quoted(sentence)} is not Unicode") from error
    if not count_words(sentence):
        raise ValueError(f"sentence {quoted(sentence)} has no words after cleaning; allowed: text with words")
    return clean_caption(composed(sentence))
