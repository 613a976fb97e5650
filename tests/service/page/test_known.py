"""Counting names and cameras takes little of the time, however large a gallery is."""

import threading

import pytest

from service.page.known import Known


class Gallery:
    """A finder that counts as slowly as it is told."""

    def __init__(self):
        self.now, self.takes, self.times, self.fails = 100.0, 0.0, 0, False

    def identities(self):
        if self.fails:
            raise OSError("gone")
        self.now += self.takes
        self.times += 1
        return {"Anna": self.times}

    def cameras(self):
        return {"gate": 1}


@pytest.mark.parametrize(
    ("takes", "wait", "again"), [(0.1, 1.9, 1), (0.1, 2.1, 2), (10, 199, 1), (10, 201, 2)]
)
def test_a_twentieth_of_the_time(takes, wait, again):
    gallery = Gallery()
    known = Known(gallery, lambda: gallery.now)
    gallery.takes = takes
    assert known() == ({"Anna": 1}, {"gate": 1})
    gallery.now += wait
    known()
    assert gallery.times == again


@pytest.mark.parametrize(("takes", "again"), [(0.1, 2), (10, 1)])
def test_a_change_is_seen_at_once_where_that_is_quick(takes, again):
    gallery = Gallery()
    known = Known(gallery, lambda: gallery.now)
    gallery.takes = takes
    known()
    known(changed=True)
    assert gallery.times == again


def test_who_comes_while_it_is_counted_gets_the_last_counts():
    gallery = Gallery()
    known = Known(gallery, lambda: gallery.now)
    known()
    gallery.now += 1
    going, done = threading.Event(), threading.Event()
    cameras = gallery.cameras

    def slow():
        going.set()
        assert done.wait(10)
        return cameras()

    gallery.cameras = slow
    thread = threading.Thread(target=known)
    thread.start()
    assert going.wait(10)
    assert known(changed=True) == ({"Anna": 1}, {"gate": 1})
    done.set()
    thread.join()
    assert known._counts == ({"Anna": 2}, {"gate": 1})


def test_after_an_error_it_is_counted_again():
    gallery = Gallery()
    known = Known(gallery, lambda: gallery.now)
    gallery.fails = True
    with pytest.raises(OSError, match="gone"):
        known()
    gallery.fails = False
    assert known() == ({"Anna": 1}, {"gate": 1})
