"""Model folders that lack weights, have foreign ones, or ones that are no numbers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from seqloom.core.errors import AssetError
from seqloom.hub.gguf import convert_gguf
from seqloom.llm.config import NetworkConfig
from seqloom.llm.generation.networks import build_network
from seqloom.llm.loading import load_causal_lm, load_encoder_lm
from seqloom.text.encoders import build_encoder
from seqloom.text.options import EncoderOptions
from support.language_models import (
    build_tiny_network,
    build_tiny_tokenizer,
    save_tiny_bert,
    save_tiny_llama,
    save_tiny_sentence_model,
)

ROW = {"llama": "model.layers.1.mlp.up_proj.weight", "bert": "encoder.layer.1.output.dense.weight"}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama, a Llama with tied weights, a BERT, the BERT for sentences, a T5."""
    base = tmp_path_factory.mktemp("models")
    save_tiny_llama(base / "llama")
    save_tiny_bert(base / "bert")
    save_tiny_sentence_model(base / "sentence")
    networks = {"t5": build_tiny_network("t5"), "tied": build_tiny_network("llama")}
    for name, network in networks.items():
        network.save_pretrained(base / name)
        build_tiny_tokenizer().save_pretrained(base / name)
    return base


@pytest.fixture
def models(kept: Path, tmp_path: Path) -> Path:
    return shutil.copytree(kept, tmp_path / "models")


def change(folder: Path, edit: Callable[..., Any], file: str = "model.safetensors") -> None:
    """Edit the weights in a folder."""
    tensors = {key: value.clone() for key, value in load_file(folder / file).items()}
    edit(tensors)
    save_file(tensors, folder / file, {"format": "pt"})


def without(*parts: Any) -> Callable[..., Any]:
    def edit(tensors: dict[Any, Any]) -> None:
        for key in [key for key in tensors if any(part in key for part in parts)]:
            del tensors[key]

    return edit


def embed(folder: Path, **options: Any) -> torch.Tensor:
    return build_encoder(
        EncoderOptions.build({"encoder": str(folder), "device": "cpu", **options})
    ).encode(["a task", "user"])


def network(folder: Path, **options: Any) -> Any:
    return build_network(NetworkConfig(name=str(folder), **options), build_tiny_tokenizer())


CASES = [
    ("llama", embed, ROW["llama"].removeprefix("model.")),
    ("llama", load_causal_lm, ROW["llama"]),
    ("llama", load_encoder_lm, ROW["llama"].removeprefix("model.")),
    ("llama", load_causal_lm, "lm_head.weight"),
    ("bert", embed, ROW["bert"]),
    ("bert", load_encoder_lm, "embeddings.position_embeddings.weight"),
    ("sentence", embed, ROW["bert"]),
    ("tied", network, "model.embed_tokens.weight"),
    ("t5", network, "decoder.block.1.layer.1.EncDecAttention.q.weight"),
    ("t5", embed, "encoder.block.0.layer.0.SelfAttention.q.weight"),
]


@pytest.mark.parametrize(("name", "load", "key"), CASES)
def test_a_lost_weight_is_named(
    models: Path, name: str, load: Callable[..., Any], key: str
) -> None:
    load(models / name)
    change(models / name, without(key))
    with pytest.raises(AssetError, match=f"lacks .*{key}"):
        load(models / name)


@pytest.mark.parametrize(("name", "load", "key"), CASES)
def test_weights_that_are_no_numbers_are_named(
    models: Path, name: str, load: Callable[..., Any], key: str
) -> None:
    def edit(tensors: Any) -> None:
        (actual,) = (value for name, value in tensors.items() if key in name)
        actual.flatten()[3] = torch.nan if actual.ndim > 1 else torch.inf

    change(models / name, edit)
    with pytest.raises(AssetError, match=f"NaN or infinite weights in .*{key.split('.')[-2]}"):
        load(models / name)


@pytest.mark.parametrize(
    ("name", "load", "key"),
    [
        ("llama", load_causal_lm, "model.layers.0.mlp.up_proj.lora_A.weight"),
        ("llama", embed, "transformer.h.3.attn.c_attn.weight"),
        ("llama", load_causal_lm, "model.layers.2.mlp.up_proj.weight"),
        ("sentence", embed, "encoder.layer.2.output.dense.weight"),
        ("t5", network, "encoder.block.2.layer.0.SelfAttention.q.weight"),
    ],
)
def test_a_weight_too_many_is_named(
    models: Path, name: str, load: Callable[..., Any], key: str
) -> None:
    change(models / name, lambda tensors: tensors.update({key: torch.ones(3)}))
    with pytest.raises(AssetError, match=f"does not know: {key}"):
        load(models / name)


@pytest.mark.parametrize(
    ("name", "source", "load"),
    [("bert", "llama", embed), ("sentence", "llama", embed), ("llama", "bert", load_causal_lm)],
)
def test_the_weights_of_another_architecture_are_refused(
    models: Path, name: str, source: str, load: Callable[..., Any]
) -> None:
    shutil.copy(models / source / "model.safetensors", models / name / "model.safetensors")
    with pytest.raises(AssetError, match=r"lacks .* and has weights that the model does not know"):
        load(models / name)


@pytest.mark.parametrize("load", [embed, load_causal_lm])
def test_weights_of_another_width_are_refused(models: Path, load: Callable[..., Any]) -> None:
    save_tiny_llama(models / "wide", width=64)
    shutil.copy(models / "wide/model.safetensors", models / "llama/model.safetensors")
    with pytest.raises(AssetError, match="llama"):
        load(models / "llama")


def test_what_a_model_without_its_head_does_not_need_may_be_there_or_not(models: Path) -> None:
    before = {name: embed(models / name) for name in ("bert", "sentence", "t5")}
    head = {
        "cls.predictions.transform.dense.weight": torch.ones(3),
        "classifier.0.weight": torch.ones(2),
    }
    for name in ("bert", "sentence"):
        change(models / name, without("pooler"))
        change(models / name, lambda tensors: tensors.update(head))
        assert torch.equal(embed(models / name), before[name])
    change(models / "t5", lambda tensors: tensors.update({"lm_head.weight": torch.ones(3)}))
    assert torch.equal(embed(models / "t5"), before["t5"])


def test_a_pooler_that_is_used_has_to_be_there(models: Path) -> None:
    file = models / "sentence/sentence_bert_config.json"
    modality = {"text": {"method": "forward", "method_output_name": "pooler_output"}}
    settings = json.loads(file.read_text()) | {"modality_config": modality}
    file.write_text(json.dumps(settings | {"module_output_name": "sentence_embedding"}))
    modules = json.loads((models / "sentence/modules.json").read_text())
    (models / "sentence/modules.json").write_text(json.dumps([modules[0], modules[2]]))
    embed(models / "sentence")
    change(models / "sentence", without("pooler"))
    with pytest.raises(AssetError, match=r"lacks pooler\.dense\.bias, pooler\.dense\.weight"):
        embed(models / "sentence")


@pytest.mark.parametrize("name", ["tied", "t5"])
def test_the_first_layers_alone_leave_the_others(models: Path, name: str) -> None:
    assert network(models / name, first_layers=1).config.num_hidden_layers == 1
    assert load_causal_lm(models / "llama", num_layers=1)[0].config.num_hidden_layers == 1
    assert load_encoder_lm(models / "bert", num_layers=1)[0].config.num_hidden_layers == 1


@pytest.mark.parametrize(
    "edit", [without("linear.weight"), lambda t: t.update(other=torch.ones(1))]
)
def test_a_module_of_sentence_transformers_is_whole_too(
    models: Path, edit: Callable[..., Any]
) -> None:
    change(models / "sentence/2_Dense", edit)
    with pytest.raises(AssetError, match=r"(Missing|Unexpected) key"):
        embed(models / "sentence")


def adapter(folder: Path, base: Path, **options: Any) -> Path:
    from peft import LoraConfig, get_peft_model

    model, _ = load_causal_lm(base)
    lora = LoraConfig(r=2, target_modules=["up_proj", "down_proj"], **options)
    adapted = get_peft_model(model, lora)
    with torch.no_grad():
        for name, value in adapted.named_parameters():
            if "lora_" in name:
                value.normal_()
    adapted.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("options", [{}, {"modules_to_save": ["lm_head"]}, {"use_dora": True}])
def test_a_whole_adapter_is_merged(
    models: Path, options: dict[str, bool] | dict[str, list[str]]
) -> None:
    plain, _ = load_causal_lm(models / "llama")
    merged, _ = load_causal_lm(adapter(models / "adapter", models / "llama", **options))
    assert merged.state_dict().keys() == plain.state_dict().keys()
    assert not torch.equal(merged.state_dict()[ROW["llama"]], plain.state_dict()[ROW["llama"]])


def test_an_adapter_that_lost_weights_or_is_anothers_is_refused(models: Path) -> None:
    folder = adapter(models / "adapter", models / "llama")
    file = "adapter_model.safetensors"
    change(folder, without("layers.1.mlp.up_proj.lora_B"), file)
    with pytest.raises(AssetError, match=r"adapter .* lacks .*layers\.1\.mlp\.up_proj\.lora_B"):
        load_causal_lm(folder)
    deep = adapter(models / "deep", save_tiny_llama(models / "three", num_layers=3))
    shutil.copy(deep / file, folder / file)
    with pytest.raises(AssetError, match=r"does not know: .*layers\.2"):
        load_causal_lm(folder)
    change(
        adapter(models / "nan", models / "llama"),
        lambda t: next(iter(t.values())).fill_(torch.nan),
        file,
    )
    with pytest.raises(AssetError, match="NaN"):
        load_causal_lm(models / "nan")


def gguf(file: Path, lost: Sequence[str] = (), bad: Sequence[str] = ()) -> Path:
    """A Llama of one layer as GGUF, with tied weights; without the tensors `lost`."""
    import numpy as np
    from gguf import GGUFWriter

    writer = GGUFWriter(str(file), "llama")
    sizes = {
        "context_length": 32,
        "embedding_length": 8,
        "block_count": 1,
        "feed_forward_length": 16,
    }
    for key, value in sizes.items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    words = ["<unk>", "<s>", "</s>", *"abcdefgh", "ab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_merges(["a b"])
    writer.add_token_types([1] * len(words))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    shapes = {"token_embd": (len(words), 8), "output_norm": (8,)}
    block = {"attn_norm": (8,), "ffn_norm": (8,), "ffn_up": (16, 8), "ffn_gate": (16, 8)}
    block |= {f"attn_{part}": (8, 8) for part in ("q", "k", "v", "output")} | {"ffn_down": (8, 16)}
    shapes |= {f"blk.0.{part}": shape for part, shape in block.items()}
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        weights = rng.normal(size=shape).astype(np.float32)
        if name in bad:
            weights.flat[0] = np.nan
        if name not in lost:
            writer.add_tensor(f"{name}.weight", weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_a_gguf_file_is_whole_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQLOOM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": "evil.Any"}}')
    converted = convert_gguf(gguf(tmp_path / "whole.gguf"))
    assert load_causal_lm(converted)[0].config.tie_word_embeddings
    with pytest.raises(AssetError, match=r"lacks .*mlp\.up_proj\.weight"):
        convert_gguf(gguf(tmp_path / "part.gguf", lost=["blk.0.ffn_up"]))
    with pytest.raises(AssetError, match=r"NaN .*mlp\.up_proj\.weight"):
        convert_gguf(gguf(tmp_path / "bad.gguf", bad=["blk.0.ffn_up"]))
    (tmp_path / "cut.gguf").write_bytes((tmp_path / "whole.gguf").read_bytes()[:700])
    with pytest.raises(AssetError, match=r"cut\.gguf cannot be loaded"):
        convert_gguf(tmp_path / "cut.gguf")
