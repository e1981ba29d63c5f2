"""Hostile and unsuitable model folders: nothing of them is run, and no pickle is read."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import seqloom
from seqloom.core.errors import AssetError, SeqloomError
from seqloom.hub.model_files import check_model_files
from seqloom.hub.model_folders import model_folder, weights_hash
from seqloom.llm.config import NetworkConfig
from seqloom.llm.generation.networks import build_network
from seqloom.llm.generation.tokenizers import load_tokenizer
from seqloom.llm.loading import load_causal_lm, load_encoder_lm
from seqloom.text.encoders import build_encoder
from seqloom.text.options import EncoderOptions
from support.language_models import save_tiny_llama, save_tiny_sentence_model

CODE = "from pathlib import Path\nPath({marker!r}).touch()\n"
CLASSES = "class Any:\n    pass\n"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers model with a Dense module, and a Llama."""
    base = tmp_path_factory.mktemp("models")
    save_tiny_sentence_model(base / "sentence")
    save_tiny_llama(base / "llama")
    return base


@pytest.fixture
def models(kept: Path, tmp_path: Path) -> Path:
    return shutil.copytree(kept, tmp_path / "models")


class Pickled:
    """A pickle that leaves a marker where it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (open, (str(self.marker), "w"))


def change(file: Path, **entries: Any) -> None:
    actual = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**actual, **entries}))


def embed(folder: Path) -> torch.Tensor:
    options = EncoderOptions.build({"encoder": str(folder), "device": "cpu"})
    return build_encoder(options).encode(["a task", "user"])


def every_door(folder: Path) -> Iterator[Callable[..., Any]]:
    """Each way in which a model folder is opened."""
    yield lambda: embed(folder)
    yield lambda: load_causal_lm(folder)
    yield lambda: load_encoder_lm(folder)
    yield lambda: load_tokenizer(folder)
    yield lambda: build_network(NetworkConfig(name=str(folder)), load_tokenizer(folder))


def auto_map(folder: Path, file: str, marker: Path) -> None:
    code = CODE.format(marker=str(marker)) + CLASSES
    (folder / "evil.py").write_text(code)
    names = ("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoModelForSeq2SeqLM")
    mapped = dict.fromkeys(names, "evil.Any") | {"AutoTokenizer": ["evil.Any", "evil.Any"]}
    entries: dict[str, Any] = {"auto_map": mapped}
    if file == "config.json":
        entries["model_type"] = "evil"
    change(folder / file, **entries)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("name", ["llama", "sentence"])
def test_code_in_a_model_folder_is_never_run(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str
) -> None:
    marker = tmp_path / "marker"
    auto_map(models / name, file, marker)
    for door in every_door(models / name):
        # What `yes | seqloom ...` answers to a library that asks.
        monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 100))
        with pytest.raises(SeqloomError, match="auto_map"):
            door()
    assert not marker.exists()


def test_a_module_of_its_own_is_refused(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, marker = models / "sentence", tmp_path / "marker"
    (folder / "evil.py").write_text(CODE.format(marker=str(marker)) + CLASSES)
    monkeypatch.syspath_prepend(folder)
    modules = json.loads((folder / "modules.json").read_text())
    allowed = [module["type"] for module in modules]
    for kind in ("evil.Any", "os.system", "sentence_transformers.util.http_get", "", None, 3):
        modules[1]["type"] = kind
        (folder / "modules.json").write_text(json.dumps(modules))
        with pytest.raises(AssetError, match=r"only modules of sentence-transformers itself"):
            embed(folder)
    assert not marker.exists()
    for kind in ("sentence_transformers.models.Pooling", allowed[1]):
        modules[1]["type"] = kind
        (folder / "modules.json").write_text(json.dumps(modules))
        assert embed(folder).shape == (2, 8)


@pytest.mark.parametrize(
    ("file", "entries", "message"),
    [
        ("2_Dense/config.json", {"activation_function": "evil.Any"}, "torch.nn"),
        ("2_Dense/config.json", {"activation_function": "os.system"}, "torch.nn"),
        ("2_Dense/config.json", {"activation_function": "torch.hub.load"}, "torch.nn"),
        ("sentence_bert_config.json", {"model_args": {"trust_remote_code": True}}, "trust_remote"),
        ("sentence_bert_config.json", {"model_kwargs": {"weights_only": True}}, "weights_only"),
        ("sentence_bert_config.json", {"tokenizer_name_or_path": "/x"}, "tokenizer_name_or_path"),
        ("config.json", {"attn_implementation": "someone/kernel"}, "code from a hub"),
        ("config.json", {"sub": {"deep": [{"auto_map": {"AutoModel": "evil.Any"}}]}}, "auto_map"),
    ],
)
def test_settings_that_name_code_or_places_are_refused(
    models: Path, file: str, entries: dict[str, Any], message: str
) -> None:
    change(models / "sentence" / file, **entries)
    with pytest.raises(AssetError, match=message):
        embed(models / "sentence")


def test_settings_that_name_nothing_are_no_matter(models: Path) -> None:
    change(models / "sentence/config.json", auto_map={}, trust_remote_code=False)
    assert embed(models / "sentence").shape == (2, 8)


@pytest.mark.parametrize("path", ["../elsewhere", "/tmp", "a\\b", 7])
def test_a_module_elsewhere_is_refused(models: Path, path: int | str) -> None:
    file = models / "sentence/modules.json"
    modules = json.loads(file.read_text())
    modules[2]["path"] = path
    file.write_text(json.dumps(modules))
    with pytest.raises(AssetError, match="outside the model's folder"):
        embed(models / "sentence")


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\udcff"])
def test_damaged_settings_are_explained(models: Path, text: str) -> None:
    (models / "llama/config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    for door in itertools.islice(every_door(models / "llama"), 3):
        with pytest.raises(AssetError, match=r"config\.json cannot be read"):
            door()


@pytest.mark.parametrize("part", ["llama", "sentence", "sentence/2_Dense"])
def test_pickled_weights_alone_are_refused(models: Path, tmp_path: Path, part: str) -> None:
    marker = tmp_path / "marker"
    (models / part / "model.safetensors").unlink()
    (models / part / "pytorch_model.bin").write_bytes(pickle.dumps(Pickled(marker)))
    doors = (
        [*every_door(models / part)][:3]
        if "/" not in part
        else [lambda: embed(models / "sentence")]
    )
    for door in doors:
        with pytest.raises(AssetError, match=r"pytorch_model\.bin alone.*save_pretrained"):
            door()
    assert not marker.exists()


@pytest.mark.parametrize("part", ["llama", "sentence", "sentence/2_Dense"])
def test_safetensors_are_read_where_there_are_both(models: Path, tmp_path: Path, part: str) -> None:
    marker, folder = tmp_path / "marker", models / part.split("/")[0]
    before = embed(folder)
    for name in ("pytorch_model.bin", "adapter_model.bin", "training_args.bin"):
        (models / part / name).write_bytes(pickle.dumps(Pickled(marker)))
    assert torch.equal(embed(folder), before)
    assert not marker.exists()


def test_a_pickle_under_another_name_is_not_read(models: Path, tmp_path: Path) -> None:
    folder, marker = models / "llama", tmp_path / "marker"
    (folder / "model.safetensors").rename(folder / "evil.bin")
    (folder / "other.safetensors").write_bytes(pickle.dumps(Pickled(marker)))
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "evil.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(AssetError, match=r"only \.safetensors files of the same folder"):
        load_causal_lm(folder)
    (folder / "model.safetensors.index.json").unlink()
    (folder / "other.safetensors").rename(folder / "model.safetensors")
    with pytest.raises(AssetError, match="cannot be loaded"):
        load_causal_lm(folder)
    assert not marker.exists()


def test_an_index_may_not_leave_the_folder(models: Path) -> None:
    index = {"weight_map": {"a": "../other.safetensors"}}
    (models / "llama/model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(AssetError, match="same folder"):
        check_model_files(models / "llama")


def test_an_adapter_beside_a_model_is_refused(models: Path) -> None:
    """transformers would load it, and a base from wherever the adapter names it."""
    change(models / "sentence/adapter_config.json", base_model_name_or_path="/elsewhere")
    with pytest.raises(AssetError, match="merge it into its base"):
        embed(models / "sentence")


def test_an_adapter_whose_base_is_itself_is_refused(models: Path) -> None:
    change(models / "llama/adapter_config.json", base_model_name_or_path=str(models / "llama"))
    with pytest.raises(AssetError, match="whose base is itself"):
        load_causal_lm(models / "llama")


def test_the_hash_covers_the_weights_of_modules(models: Path) -> None:
    folder = models / "sentence"
    before = weights_hash(folder)
    shutil.rmtree(folder / "1_Pooling")
    assert weights_hash(folder) == before
    with (folder / "2_Dense/model.safetensors").open("r+b") as file:
        file.seek(-1, io.SEEK_END)
        file.write(b"\x7f")
    assert weights_hash(folder) != before
    assert model_folder(folder) == folder


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_the_libraries_are_configured_to_run_no_code_either(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    marker = tmp_path / "marker"
    auto_map(models / "llama", file, marker)
    for module in ("hub.model_folders", "llm.generation.tokenizers", "llm.generation.networks"):
        monkeypatch.setattr(f"seqloom.{module}.check_model_files", lambda folder: None)
    for door in every_door(models / "llama"):
        answers = io.StringIO("y\n" * 100)
        monkeypatch.setattr("sys.stdin", answers)
        with contextlib.suppress(SeqloomError):  # some parts are read by classes of the library
            door()
        assert answers.tell() == 0
    assert not marker.exists()


def test_models_are_loaded_in_one_place() -> None:
    """Whatever loads a model passes no code, no pickle and no missing weight."""
    source = Path(seqloom.__file__).parent
    calls = re.compile(r"(\w+)\.from_pretrained\(|(?<!\w)(?:Sentence)?Transformer\(|torch\.load\(")
    actual = {
        (file.relative_to(source).as_posix(), match.group(1))
        for file in source.rglob("*.py")
        for match in calls.finditer(file.read_text(encoding="utf-8"))
    }
    assert {place for place in actual if place[1] != "Embedding"} == {
        ("hub/pretrained.py", "auto"),
        ("llm/loading.py", "PeftModel"),
        ("text/encoders/sentence.py", None),
    }
