"""What a run knows of texts, from its manifest."""

from __future__ import annotations

from typing import Any

import pytest

from seqloom.pipelines.compare.setup import holds_language_model, text_kind
from seqloom.runs.manifest import RunManifest


def manifest(system: str, **fields: Any) -> RunManifest:
    base = {
        "seqloom": "0",
        "sizes": {"num_items": 3, "text_size": 0, "id_size": 0},
        "dataset": {"path": "d", "fingerprint": "f"},
        "versions": {},
    }
    return RunManifest.build({**base, "system": system, **fields})


def text(**encoder: Any) -> dict[str, Any]:
    return {"encoder": encoder}


@pytest.mark.parametrize(
    ("run", "config", "kind"),
    [
        (manifest("sasrec"), {}, "ids"),
        (manifest("llminit", text=text(kind="hash", width=64)), {}, "words"),
        (manifest("texttower"), {"words": {"start": "random"}}, "words"),
        (manifest("texttower"), {"words": {"start": "pretrained"}}, "tuned"),
        (manifest("llminit", text=text(kind="sentence-transformers")), {}, "pretrained"),
        (manifest("llminit", text=text(kind="words", tuned_on="abc")), {}, "tuned"),
        (
            manifest("llmesr", text=text(kind="transformers")),
            {"semantic": {"encoder": "tower"}},
            "tuned",
        ),
        (
            manifest("llmesr", text=text(kind="transformers")),
            {"semantic": {"encoder": "recency"}},
            "pretrained",
        ),
        (manifest("e4srec", base={"name": "smol", "num_layers": 4}), {}, "model"),
        (manifest("idgenrec"), {}, "model"),
        (manifest("llminit", text=text(kind="imported")), {}, None),
        (
            manifest("ensemble", members=[{"run": "a", "system": "s", "weights_sha256": ""}]),
            {},
            None,
        ),
    ],
)
def test_the_kind_is_read_from_the_manifest(
    run: RunManifest, config: dict[str, Any], kind: str | None
) -> None:
    found, reason = text_kind(run, config)
    assert found == kind
    assert bool(reason) == (kind is None)


def test_a_language_model_that_takes_no_part_is_none() -> None:
    base = {"name": "smol", "num_layers": 4}
    words = {"tower": {"words": {"start": "random"}}}
    run = manifest("e4srec", base=base)
    assert text_kind(run, words, uses_language_model=False)[0] == "words"
    assert text_kind(run, words, uses_language_model=False, reads_text=False)[0] == "ids"
    towered = {"semantic": {"encoder": "tower", "tower": words["tower"]}, "views": "both"}
    esr = manifest("llmesr", text=text(kind="sentence-transformers"))
    assert text_kind(esr, towered, uses_language_model=False)[0] == "words"
    dense = {"dense": {"tower": {"words": {"start": "random"}}}}
    assert text_kind(manifest("idgenrec"), dense, uses_language_model=False)[0] == "words"


def test_a_tower_counts_where_its_view_does() -> None:
    config: dict[str, Any] = {"semantic": {"encoder": "tower"}, "views": "both"}
    assert text_kind(manifest("llmesr"), config)[0] == "tuned"
    alone = {**config, "views": "collaborative"}
    table = manifest("llmesr", text=text(kind="sentence-transformers"))
    assert text_kind(table, alone)[0] == "pretrained"


def test_a_run_holds_a_language_model_by_its_base_its_text_or_its_system() -> None:
    held = [
        manifest("e4srec", base={"name": "smol", "num_layers": 4}),
        manifest("llminit", text=text(kind="transformers")),
        manifest("llmesr", further_texts=[text(kind="transformers")]),
        manifest("idgenrec"),
    ]
    assert all(holds_language_model(run) for run in held)
    random = {"language_model": False, "encoder": {"kind": "transformers"}}
    members = [{"run": "a", "system": "e4srec", "weights_sha256": ""}]
    none = [
        manifest("sasrec"),
        manifest("llminit", text=text(kind="hash")),
        manifest("llminit", text=random),
        manifest("ensemble", members=members, base={"name": "smol"}),
    ]
    assert not any(holds_language_model(run) for run in none)


def test_what_only_counts_is_in_no_chain() -> None:
    assert text_kind(manifest("popularity"), {}, counts_only=True)[0] is None
