import threading

import pytest

from ovs_core.engine.cache import ByteCache, CacheStats


def test_least_recently_used_goes_first():
    cache = ByteCache(10)
    cache.put("features", "a", "A", 4)
    cache.put("features", "b", "B", 4)
    assert cache.get("features", "a") == "A"  # now b is the older one
    cache.put("text", "c", "C", 4)  # 12 bytes: one has to go
    assert cache.get("features", "b") is None
    assert cache.get("features", "a") == "A"
    assert cache.get("text", "c") == "C"
    assert cache.nbytes == 8


def test_counts_by_kind():
    cache = ByteCache(10)
    cache.put("features", 1, "x", 6)
    cache.get("features", 1)
    cache.get("features", 2)
    cache.get("scores", 1)
    cache.put("scores", 1, "y", 6)
    assert cache.stats("features") == CacheStats(hits=1, misses=1, evictions=1, nbytes=0)
    assert cache.stats("scores") == CacheStats(hits=0, misses=1, evictions=0, nbytes=6)
    assert cache.stats("text") == CacheStats(0, 0, 0, 0)


def test_the_first_of_several_keys_that_is_there():
    cache = ByteCache(12)
    cache.put("features", "wide", "W", 4)
    cache.put("features", "other", "O", 4)
    assert cache.get("features", "narrow", "wide") == "W"  # "other" is the older one now
    cache.put("features", "narrow", "N", 4)
    assert cache.get("features", "narrow", "wide") == "N"
    cache.put("features", "new", "X", 4)
    assert cache.get("features", "other") is None
    assert cache.get("features", "absent", "other") is None
    assert cache.stats("features") == CacheStats(hits=2, misses=2, evictions=1, nbytes=12)


def test_same_key_under_two_kinds_is_two_entries():
    cache = ByteCache(10)
    cache.put("features", "k", 1, 1)
    cache.put("text", "k", 2, 1)
    assert (cache.get("features", "k"), cache.get("text", "k")) == (1, 2)


def test_putting_again_replaces():
    cache = ByteCache(10)
    cache.put("text", "k", "old", 7)
    cache.put("text", "k", "new", 5)
    assert cache.get("text", "k") == "new"
    assert cache.nbytes == 5
    assert cache.stats("text").evictions == 0


def test_too_large_a_value_is_not_kept_and_pushes_nothing_out():
    cache = ByteCache(10)
    cache.put("text", "small", "s", 9)
    cache.put("features", "large", "l", 11)
    assert cache.get("features", "large") is None
    assert cache.get("text", "small") == "s"


def test_no_budget_keeps_nothing():
    cache = ByteCache(0)
    cache.put("text", "k", "v", 1)
    assert cache.get("text", "k") is None


def test_drop_forgets_one_kind():
    cache = ByteCache(10)
    cache.put("features", "k", 1, 3)
    cache.put("text", "k", 2, 3)
    cache.drop("features")
    assert cache.get("features", "k") is None
    assert cache.get("text", "k") == 2
    assert cache.nbytes == 3


def test_negative_budget_is_refused():
    with pytest.raises(ValueError, match="cache_bytes must be 0 or more, got -1"):
        ByteCache(-1)


def test_threads_keep_the_budget():
    cache = ByteCache(100)
    seen = []

    def work(number):
        for step in range(300):
            cache.put("features", (number, step % 7), step, 9 + number)
            cache.get("features", (number, (step + 1) % 7))
            seen.append(cache.nbytes)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 1200
    assert max(seen) <= 100
    assert cache.stats("features").nbytes == cache.nbytes
