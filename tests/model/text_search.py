"""Features and settings of toy text search models, for the tests of this room."""

import torch

from model import tokenize_captions

CAPTIONS = ["a man in red", "somebody with a blue bag, a hat and a long coat"]
HEADS = ("MODEL.ID_LOSS_WEIGHT", 1.0, "MODEL.MLM_LOSS_WEIGHT", 1.0)
WIDE = ("INPUT.SIZE_TRAIN", [64, 24], "INPUT.SIZE_TEST", [64, 24])
SHIFTED = ("INPUT.SIZE_TRAIN", [41, 26], "INPUT.SIZE_TEST", [41, 26], "MODEL.STRIDE_SIZE", [7, 7])


@torch.no_grad()
def features(model, size=(32, 16), length=16):
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    return torch.cat([model.encode_image(images), model.encode_text(tokenize_captions(CAPTIONS, length))])


def told_by(caplog):
    return [record.getMessage() for record in caplog.records]
