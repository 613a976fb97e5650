"""Errors about arguments become errors about keys."""

import pytest

from config.errors import as_keys

KEYS = {"neck_feature": "TEST.NECK_FEAT", "path": "MODEL.PRETRAIN_PATH"}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("neck_feature is 'x'; allowed: 'a'"), "TEST.NECK_FEAT is 'x'; allowed: 'a'"),
        (FileNotFoundError("path /x does not exist"), "MODEL.PRETRAIN_PATH /x does not exist"),
        (ValueError("neck is 'x', not neck_feature"), "neck is 'x', not neck_feature"),
        (ValueError("f.pth: give its `path` and `size`"), "f.pth: give its MODEL.PRETRAIN_PATH and `size`"),
        (ValueError(), ""),
        (KeyError("path"), "'path'"),
    ],
)
def test_arguments_are_translated(error, message):
    with pytest.raises(type(error)) as caught, as_keys(KEYS):
        raise error
    assert str(caught.value) == message
    assert caught.value is error or caught.value.__cause__ is error
