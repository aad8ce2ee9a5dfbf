"""Tiny randomly initialised models, saved to a folder as transformers saves real ones."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetModel,
    SiglipConfig,
    SiglipModel,
    ViTConfig,
    ViTModel,
)

WORDS = ["[PAD]", "[UNK]", "[BOS]", "[EOS]", "a", "red", "blue", "circle", "square", "on", "white"]
_LAYERS = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_PICTURE = {**_LAYERS, "image_size": 32, "patch_size": 8}
_TEXT = {**_LAYERS, "vocab_size": len(WORDS), "max_position_embeddings": 12, "pad_token_id": 0}
_TEXT |= {"bos_token_id": 2, "eos_token_id": 3}


def _save(folder: Path, model, processor: str | None = None, *, tokens: bool = False) -> Path:
    model.save_pretrained(folder)
    if processor is not None:
        size = (
            {"height": 32, "width": 32}
            if processor not in ("BitImageProcessor", "ConvNextImageProcessor")
            else {"shortest_edge": 32}
        )
        settings = {"image_processor_type": processor, "size": size, "crop_size": {"height": 32, "width": 32}}
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    if tokens:
        tokenizer = Tokenizer(WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token=WORDS[1]))
        tokenizer.pre_tokenizer = Whitespace()
        tokenizer.post_processor = TemplateProcessing(
            single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 2), ("[EOS]", 3)]
        )
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            **{f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "bos", "eos")},
            model_max_length=12,
            model_input_names=["input_ids", "attention_mask"],
        ).save_pretrained(folder)
    return folder


def clip(folder: Path) -> Path:
    torch.manual_seed(0)
    config = CLIPConfig(text_config=_TEXT, vision_config=_PICTURE, projection_dim=8)
    return _save(folder, CLIPModel(config), "CLIPImageProcessor", tokens=True)


def siglip(folder: Path) -> Path:
    torch.manual_seed(0)
    config = SiglipConfig(text_config=_TEXT, vision_config=_PICTURE)
    return _save(folder, SiglipModel(config), "SiglipImageProcessor", tokens=True)


def dinov2(folder: Path) -> Path:
    torch.manual_seed(0)
    return _save(folder, Dinov2Model(Dinov2Config(**_PICTURE)), "BitImageProcessor")


def vit(folder: Path) -> Path:
    """A checkpoint without a pooling layer, as classifiers are published."""
    torch.manual_seed(0)
    return _save(folder, ViTModel(ViTConfig(**_PICTURE), add_pooling_layer=False), "ViTImageProcessor")


def resnet(folder: Path) -> Path:
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    return _save(folder, ResNetModel(config), "ConvNextImageProcessor")


def bert(folder: Path, pooling: dict | None = None) -> Path:
    """A sentence model; ``pooling`` is what its pooling file says, if it has one."""
    torch.manual_seed(0)
    _save(folder, BertModel(BertConfig(**_TEXT)), tokens=True)
    if pooling is not None:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


PICTURES = {"clip": clip, "siglip": siglip, "dinov2": dinov2, "vit": vit, "resnet": resnet}
TEXTS = {"clip": clip, "siglip": siglip, "bert": bert}
