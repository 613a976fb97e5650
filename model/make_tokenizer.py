"""From the configuration to the tokenizer of a text search model, without the model."""

from yacs.config import CfgNode

from config.errors import as_keys
from model.files.multilingual_file import find_tokenizer, released_file
from model.multilingual import is_multilingual, text_model_name
from model.tokenizers import ClipTokenizer, SentencePieceTokenizer, Tokenizer


def make_tokenizer(cfg: CfgNode) -> Tokenizer:
    """The tokenizer of the text tower that MODEL.NAME and MODEL.TEXT name, of MODEL.TEXT_LENGTH tokens.

    A multilingual one lies next to the weights of the tower. Raises FileNotFoundError or ValueError for these
    as training does, and at its first use as `SentencePieceTokenizer` does.
    """
    node = cfg.MODEL
    own = is_multilingual(node.NAME)
    name = node.NAME if own else text_model_name(node.TEXT)
    if not is_multilingual(name):
        return ClipTokenizer(node.TEXT_LENGTH)
    path, tag = (node.PRETRAIN_PATH, node.PRETRAIN_TAG) if own else (node.TEXT_PATH, "")
    keys = {"path": "MODEL.PRETRAIN_PATH" if own else "MODEL.TEXT_PATH", "tag": "MODEL.PRETRAIN_TAG"}
    with as_keys(keys):
        return SentencePieceTokenizer(find_tokenizer(released_file(name, path, tag)), None, node.TEXT_LENGTH)
