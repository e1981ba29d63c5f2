"""The protocol describes its fields in sentences."""

from seqloom.evaluation.protocol import RankingProtocol


def test_statement() -> None:
    full = RankingProtocol(fingerprint="f")
    assert "within the whole catalogue" in full.statement()
    assert "left out of the ranking" in full.statement()
    unmasked = RankingProtocol(fingerprint="f", masked=False, part="valid")
    assert "stay in the ranking" in unmasked.statement()
    assert "validation part" in unmasked.statement()
    sampled = RankingProtocol(fingerprint="f", kind="sampled", negatives=100, seed=7)
    assert "against 100 items" in sampled.statement()
    assert "higher than full ones" in sampled.statement()


def test_differences() -> None:
    first = RankingProtocol(fingerprint="f")
    assert first.differences(first) == []
    assert first.differences(RankingProtocol(fingerprint="g", part="valid")) == [
        "part: 'test' and 'valid'",
        "fingerprint: 'f' and 'g'",
    ]
