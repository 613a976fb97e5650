"""Rules of names: what they read, what they leave, and which of them are refused."""

from pathlib import PurePosixPath

import pytest

from datasets import NamingRule, likely_rule


@pytest.mark.parametrize(
    ("rule", "path", "labels"),
    [
        ("{pid}/*", "anna/1.jpg", ("anna", None)),
        ("{pid}/*", "1.jpg", None),
        ("{pid}/*", "a/anna/1.jpg", None),
        ("{pid}/{camid}/*", "anna/hall/1.jpg", ("anna", "hall")),
        ("*/{pid}/*", "2024/anna/1.jpg", ("anna", None)),
        ("{pid:d}_c{camid:d}*", "0002_c1s1_000451_03.jpg", ("0002", "1")),
        ("{pid:d}_c{camid:d}*", "0002_c12s1_000451_03.jpg", ("0002", "12")),
        ("{pid:d}_c{camid:d}*", "-1_c1s1_000451_03.jpg", None),
        ("{pid}_c{camid:d}*", "-1_c1s1_000451_03.jpg", ("-1", "1")),
        ("{pid}_c{camid}_*", "deep/below/anna_b_c1_c2_3.jpg", ("anna_b", "1")),
        ("{pid}_c{camid}", "anna_c1_3.JPEG", ("anna", "1_3")),
        ("cam{camid}-{pid}", "cam东门-машина35.png", ("машина35", "东门")),
        ("{pid}.*", "a.b.c.jpg", ("a", None)),
        ("{pid}.*", "axb.jpg", None),
        ("{pid}_*", "_1.jpg", None),
    ],
)
def test_what_a_rule_reads(rule, path, labels):
    assert NamingRule(rule).read(PurePosixPath(path)) == labels


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("", "allowed: {pid} and, perhaps"),
        ("c{camid:d}*", "allowed: {pid} and, perhaps"),
        ("{pid}_{pid}", "each once"),
        ("{pid}_{view}", "allowed: {pid} and, perhaps"),
        ("{pid:x}", "allowed: {pid} and, perhaps"),
        ("{pid}*", "a text between {pid} and *, or {pid:d} for digits"),
        ("{pid}_c{camid}*", "a text between {camid} and *, or {camid:d} for digits"),
        ("{pid}{camid}", "a text between {pid} and {camid}"),
    ],
)
def test_rules_that_are_refused(rule, told):
    with pytest.raises(ValueError, match=r"^rule is") as error:
        NamingRule(rule)
    assert told in str(error.value) and repr(rule) in str(error.value)


@pytest.mark.parametrize(
    ("names", "rule"),
    [
        (["0002_c1s1_000451_03.jpg", "0002_c2s1_1_03.jpg", "7_c1s1_1_03.jpg"], "{pid:d}_c{camid:d}*"),
        (["-1_c1s1_000451_03.jpg", "0002_c1s1_1_03.jpg", "0002_c2s1_1_03.jpg"], "{pid}_c{camid:d}*"),
        (["anna/door/p_c1.jpg", "anna/door/p_c2.jpg", "ben/door/p_c2.jpg"], "{pid}/{camid}/*"),
        (["bus_0001_cam1.jpg", "bus_0001_cam2.jpg", "bus_0002_cam1.jpg"], "{pid}_cam{camid:d}*"),
        (["anna_1.jpg", "anna_2.jpg", "ben_1.jpg"], "{pid}_*"),
        (["anna_1.jpg", "ben_1.jpg"], ""),
        (["anna_1.jpg", "anna_2.jpg", "IMG.jpg"], ""),
        ([], ""),
    ],
)
def test_a_rule_that_fits(names, rule):
    assert likely_rule([PurePosixPath(name) for name in names]) == rule
