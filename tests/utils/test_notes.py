"""Facts for receipts that travel with lines of the log."""

import logging

from utils.notes import noting, reads_weights, without

LOGGER = logging.getLogger("transreid.datasets")


def test_counts_add_up_and_files_are_named():
    with noting() as notes:
        LOGGER.warning("3 lines", extra=without({"lines": 3, "images": 0}))
        LOGGER.warning("2 more", extra=without({"lines": 2}))
        LOGGER.warning("from a file", extra=reads_weights("clip", "ViT-B-16.pt"))
        LOGGER.warning("nothing to note")
    assert notes.left_out == {"lines": 5} and notes.weights == {"clip": "ViT-B-16.pt"}
    LOGGER.warning("4 later", extra=without({"lines": 4}))
    assert notes.left_out == {"lines": 5}
