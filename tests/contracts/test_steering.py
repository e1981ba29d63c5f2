"""Every system with item texts follows a sentence."""

from __future__ import annotations

from typing import Any

from seqloom.runs.folder import load_run

HISTORY = ["i3", "i7", "i11"]


def test_a_sentence_steers_every_system(trained: Any) -> None:
    run = load_run(trained)
    sentence = "red, not blue"
    (plain,) = run.recommend([HISTORY], k=20)
    (steered,) = run.recommend([HISTORY], k=20, about=sentence, about_weight=50)
    assert steered.about.wanted == "red"
    assert steered.about.unwanted == ["blue"]
    titles = [str(item.title).split()[0] for item in steered.items]
    red = sum(run.item_ids.index(i) % 2 == 0 for i in HISTORY)  # i1, i3 ... are red
    assert titles[: 20 - red] == ["red"] * (20 - red)
    assert len({item.item_id for item in steered.items}) == 20
    assert not {item.item_id for item in steered.items} & set(HISTORY)
    assert plain.about is None
    (again,) = run.recommend([HISTORY], k=20, about=sentence, about_weight=50)
    assert again == steered
    (weightless,) = run.recommend([HISTORY], k=5, about=sentence, about_weight=0)
    assert [i.item_id for i in weightless.items] == [i.item_id for i in plain.items[:5]]
