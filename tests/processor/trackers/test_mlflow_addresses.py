"""MLflow: which addresses it takes, and what it needs."""

import sys

import pytest

from processor.trackers import Mlflow, find_trackers
from utils.package import MissingExtra


@pytest.mark.parametrize(
    "uri", ["", "http://host:5000", "https://host/mlflow", "sqlite:///a/b.db", "sqlite:////a/b@c.db"]
)
def test_addresses(uri):
    assert find_trackers("mlflow", uri) == [Mlflow]
    assert len(find_trackers("mlflow,tensorboard", uri)) == 2


@pytest.mark.parametrize(
    "uri",
    [
        *("mlruns", "/a/mlruns", "file:///a", "ftp://host", "databricks", "http://", "http://["),
        *("http://host:port", "http://host:99999", "https://host?key=1", "http://host#a"),
        *("sqlite:", "sqlite:///", "sqlite:///a?b", "sqlite:///a%20b"),
    ],
)
def test_other_addresses_are_refused(uri):
    with pytest.raises(ValueError, match=r"uri is .*; allowed: .*sqlite:///") as caught:
        find_trackers("mlflow", uri)
    assert repr(uri) in str(caught.value) and "\n" not in str(caught.value)
    find_trackers("tensorboard", uri)  # which has no use for it


@pytest.mark.parametrize(
    "uri",
    [
        "http://me:hidden@host:5000",
        "https://hidden@host",
        "postgresql://me:hidden@host/db",
        "http://[me:hidden@h",
    ],
)
def test_a_password_is_refused_and_not_shown(uri):
    with pytest.raises(ValueError, match=r"uri .*allowed") as caught:
        find_trackers("mlflow", uri)
    assert "hidden" not in str(caught.value)


def test_a_missing_package_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(MissingExtra, match=r"sqlalchemy.*clipreid\[mlflow\]"):
        find_trackers("mlflow")
