"""Which architectures of ``transformers`` are converted, from which small configurations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

Options = Mapping[str, Any]


class Integers(NamedTuple):
    """An example of integers up to ``largest``."""

    shape: tuple[int, ...]
    largest: int


class Inputs(NamedTuple):
    """The shapes of several inputs by name."""

    shapes: Mapping[str, tuple[int, ...]]


class Nested(NamedTuple):
    """The configuration of a part of a model: its class, and the options."""

    kind: str
    options: Options


@dataclass(frozen=True)
class Architecture:
    """A model class of ``transformers``, the options of its configuration, and its example or that one's shape."""

    kind: str
    options: Options
    example: tuple[int, ...] | Integers | Inputs = (2, 3, 64, 64)
    small: bool = False


VIT: Options = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "image_size": 64,
    "patch_size": 16,
}  # fmt: skip
CLIP: Options = {**VIT, "num_labels": 2}
TEXT: Options = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 100,
}  # fmt: skip
CONV: Options = {"depths": [1, 1, 2, 1], "hidden_sizes": [16, 24, 32, 48]}
RESNET: Options = {**CONV, "embedding_size": 16}
SWIN: Options = {
    "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4, "image_size": 64, "patch_size": 4,
    "attn_implementation": "eager",
}  # fmt: skip
PYRAMID: Options = {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 40, 48], "num_attention_heads": [1, 2, 4, 4]}
MOBILE_VIT: Options = {
    "image_size": 64, "hidden_sizes": [24, 32, 40], "neck_hidden_sizes": [8, 8, 16, 16, 24, 32, 48]
}  # fmt: skip
DPT: Options = {
    **VIT, "num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8, 16, 24, 32],
    "fusion_hidden_size": 16,
}  # fmt: skip
DETR: Options = {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
    "num_queries": 5, "backbone_config": Nested("ResNetConfig", {**RESNET, "out_features": ["stage4"]}),
}  # fmt: skip
FOUR: Options = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
UPERNET: Options = {"hidden_size": 16, "auxiliary_channels": 16, "auxiliary_in_channels": 32}
WAVE: Options = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "conv_dim": (16, 16, 32), "conv_kernel": (10, 3, 3), "conv_stride": (5, 2, 2), "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "classifier_proj_size": 16,
}  # fmt: skip
CLIPS, WAVES, WORDS = (2, 4, 3, 32, 32), (2, 4000), Integers((2, 12), 99)
SERIES: Options = {"num_input_channels": 3, "context_length": 32, "patch_length": 8, "patch_stride": 4}
VIDEO: Options = {**VIT, "image_size": 32, "num_frames": 4}

CONVOLUTIONAL = {
    "ResNet": Architecture("ResNetForImageClassification", {**RESNET, "layer_type": "basic"}, small=True),
    "ResNet bottleneck": Architecture("ResNetForImageClassification", RESNET),
    "RegNet X": Architecture("RegNetForImageClassification", {**RESNET, "groups_width": 8, "layer_type": "x"}),
    "RegNet Y": Architecture("RegNetForImageClassification", {**RESNET, "groups_width": 8}),
    "ConvNeXt": Architecture("ConvNextForImageClassification", CONV),
    "ConvNeXt V2": Architecture("ConvNextV2ForImageClassification", CONV, small=True),
    "DINOv3 ConvNeXt": Architecture("DINOv3ConvNextModel", CONV),
    "EfficientNet": Architecture(
        "EfficientNetForImageClassification", {"width_coefficient": 0.25, "depth_coefficient": 0.4, "hidden_dim": 320}
    ),
    "MobileNetV1": Architecture("MobileNetV1ForImageClassification", {"depth_multiplier": 0.25}),
    "MobileNetV2": Architecture("MobileNetV2ForImageClassification", {"depth_multiplier": 0.35}),
    "BiT": Architecture("BitForImageClassification", {**RESNET, "num_groups": 4}),
    "HGNetV2": Architecture("HGNetV2ForImageClassification", {}),
    "PP-LCNet": Architecture("PPLCNetForImageClassification", {"scale": 0.25}),
    "TextNet": Architecture("TextNetForImageClassification", {"image_size": [64, 64]}),
    "PoolFormer": Architecture(
        "PoolFormerForImageClassification", {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1]}
    ),
    "FocalNet": Architecture(
        "FocalNetForImageClassification",
        {"image_size": 64, "embed_dim": 16, "depths": [1, 1, 2, 1], "focal_levels": [2, 2, 2, 2]},
    ),
}

ATTENTION = {
    "ViT": Architecture("ViTForImageClassification", VIT, small=True),
    "DeiT": Architecture("DeiTForImageClassification", VIT),
    "BEiT": Architecture("BeitForImageClassification", {**VIT, "use_relative_position_bias": True}),
    "Data2Vec": Architecture(
        "Data2VecVisionForImageClassification", {**VIT, "use_shared_relative_position_bias": True}
    ),
    "DINOv2": Architecture("Dinov2ForImageClassification", VIT),
    "DINOv2 with registers": Architecture("Dinov2WithRegistersForImageClassification", VIT),
    "DINOv3": Architecture("DINOv3ViTModel", VIT),
    "I-JEPA": Architecture("IJepaForImageClassification", VIT),
    "ViT MSN": Architecture("ViTMSNForImageClassification", VIT),
    "ViT MAE": Architecture(
        "ViTMAEModel", {**VIT, "mask_ratio": 0.5}, Inputs({"pixel_values": (2, 3, 64, 64), "noise": (2, 16)})
    ),
    "ViTDet": Architecture(
        "VitDetModel",
        {**VIT, "window_size": 2, "window_block_indices": [0], "use_relative_position_embeddings": True},
    ),
    "CLIP": Architecture("CLIPVisionModel", CLIP),
    "SigLIP": Architecture("SiglipVisionModel", CLIP),
    "BLIP": Architecture("BlipVisionModel", CLIP),
    "OWL-ViT": Architecture("OwlViTVisionModel", CLIP),
    "AIMv2": Architecture("Aimv2VisionModel", CLIP),
    "SAM": Architecture("SamVisionModel", {**VIT, "window_size": 2, "global_attn_indexes": [1], "output_channels": 16}),
    "Swin": Architecture("SwinForImageClassification", SWIN),
    "Swin V2": Architecture("Swinv2ForImageClassification", SWIN),
    "Donut Swin": Architecture("DonutSwinForImageClassification", SWIN),
    "Hiera": Architecture(
        "HieraForImageClassification",
        {"image_size": [64, 64], "embed_dim": 16, "depths": [1, 1, 2], "num_heads": [1, 2, 4], "num_query_pool": 2},
    ),
    "PVT": Architecture("PvtForImageClassification", {**PYRAMID, "image_size": 64}),
    "PVT V2": Architecture("PvtV2ForImageClassification", {**PYRAMID, "image_size": 64}),
    "LeViT": Architecture(
        "LevitForImageClassification",
        {
            "image_size": 64, "hidden_sizes": [32, 48, 64], "num_attention_heads": [2, 3, 4], "depths": [1, 1, 1],
            "key_dim": [16, 16, 16],
        },
    ),
    "CvT": Architecture(
        "CvtForImageClassification",
        {"embed_dim": [16, 32, 48], "num_heads": [1, 2, 3], "depth": [1, 2, 3]},
    ),
    "SegFormer": Architecture("SegformerForImageClassification", PYRAMID),
    "MobileViT": Architecture("MobileViTForImageClassification", MOBILE_VIT),
    "MobileViT V2": Architecture("MobileViTV2ForImageClassification", {"image_size": 64, "width_multiplier": 0.25}),
    "SwiftFormer": Architecture(
        "SwiftFormerForImageClassification",
        {"image_size": 64, "depths": [1, 1, 2, 1], "embed_dims": [16, 24, 32, 48]},
    ),
    "ImageGPT": Architecture(
        "ImageGPTForImageClassification",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 20, "use_cache": False},
        Integers((2, 49), 19),
    ),
}  # fmt: skip

DENSE = {
    "SegFormer segmentation": Architecture(
        "SegformerForSemanticSegmentation", {**PYRAMID, "decoder_hidden_size": 32}, small=True
    ),
    "BEiT segmentation": Architecture(
        "BeitForSemanticSegmentation", {**VIT, "num_hidden_layers": 4, "out_indices": [1, 2, 3, 4]}
    ),
    "MobileNetV2 segmentation": Architecture("MobileNetV2ForSemanticSegmentation", {"depth_multiplier": 0.35}),
    "MobileViT segmentation": Architecture("MobileViTForSemanticSegmentation", MOBILE_VIT),
    "GLPN depth": Architecture("GLPNForDepthEstimation", {**PYRAMID, "decoder_hidden_size": 16}),
    "DPT segmentation": Architecture("DPTForSemanticSegmentation", DPT),
    "DPT depth": Architecture("DPTForDepthEstimation", DPT),
    "UperNet ConvNeXt": Architecture(
        "UperNetForSemanticSegmentation", {**UPERNET, "backbone_config": Nested("ConvNextConfig", {**CONV, **FOUR})}
    ),
    "UperNet Swin": Architecture(
        "UperNetForSemanticSegmentation",
        {
            **UPERNET, "auxiliary_in_channels": 64, "attn_implementation": "eager",
            "backbone_config": Nested(
                "SwinConfig",
                {**SWIN, **FOUR, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 4], "window_size": 2},
            ),
        },
    ),
    "Depth Anything": Architecture(
        "DepthAnythingForDepthEstimation",
        {
            "backbone_config": Nested(
                "Dinov2Config",
                {
                    **VIT, **FOUR, "num_hidden_layers": 4, "reshape_hidden_states": False, "image_size": 56,
                    "patch_size": 14,
                },
            ),
            "reassemble_hidden_size": 32, "neck_hidden_sizes": [8, 16, 24, 32], "fusion_hidden_size": 16,
            "head_hidden_size": 8, "patch_size": 14,
        },
        (2, 3, 56, 56),
    ),
    "YOLOS": Architecture("YolosForObjectDetection", {**VIT, "image_size": [64, 64], "num_detection_tokens": 5}),
    "DETR": Architecture("DetrForObjectDetection", DETR),
    "Conditional DETR": Architecture("ConditionalDetrForObjectDetection", DETR),
    "Deformable DETR": Architecture(
        "DeformableDetrForObjectDetection",
        {
            **DETR, "d_model": 64,
            "backbone_config": Nested("ResNetConfig", {**RESNET, "out_features": ["stage2", "stage3", "stage4"]}),
        },
        (2, 3, 128, 128),
    ),
    "RT-DETR": Architecture(
        "RTDetrForObjectDetection",
        {
            "d_model": 32, "encoder_hidden_dim": 32, "encoder_in_channels": [24, 32, 48], "encoder_layers": 1,
            "encoder_ffn_dim": 64, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "decoder_ffn_dim": 64,
            "decoder_in_channels": [32, 32, 32], "decoder_layers": 1, "num_queries": 5, "num_denoising": 0,
            "backbone_config": Nested(
                "RTDetrResNetConfig", {**RESNET, "out_features": ["stage2", "stage3", "stage4"], "layer_type": "basic"}
            ),
        },
    ),
    "Swin2SR": Architecture(
        "Swin2SRForImageSuperResolution",
        {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4, "image_size": 16, "patch_size": 1},
        (2, 3, 16, 16),
    ),
}  # fmt: skip

SEQUENCES = {
    "BERT": Architecture("BertForSequenceClassification", TEXT, WORDS, small=True),
    "RoBERTa": Architecture("RobertaForSequenceClassification", {**TEXT, "pad_token_id": 1}, WORDS),
    "ALBERT": Architecture("AlbertForSequenceClassification", {**TEXT, "embedding_size": 16}, WORDS),
    "ELECTRA": Architecture("ElectraForSequenceClassification", {**TEXT, "embedding_size": 16}, WORDS),
    "DistilBERT": Architecture(
        "DistilBertForSequenceClassification",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": 100},
        WORDS,
    ),
    "GPT-2": Architecture(
        "GPT2LMHeadModel",
        {
            "n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 100, "use_cache": False, "bos_token_id": 0,
            "eos_token_id": 0,
        },
        WORDS,
    ),
    "wav2vec 2.0": Architecture("Wav2Vec2ForSequenceClassification", WAVE, WAVES, small=True),
    "wav2vec 2.0, layer norm": Architecture(
        "Wav2Vec2ForSequenceClassification",
        {**WAVE, "feat_extract_norm": "layer", "do_stable_layer_norm": True},
        WAVES,
    ),
    "HuBERT": Architecture("HubertForSequenceClassification", WAVE, WAVES),
    "WavLM": Architecture("WavLMForSequenceClassification", WAVE, WAVES),
    "SEW": Architecture("SEWForSequenceClassification", {**WAVE, "squeeze_factor": 2}, WAVES),
    "AST": Architecture("ASTForAudioClassification", {**VIT, "max_length": 64, "num_mel_bins": 32}, (2, 64, 32)),
    "VideoMAE": Architecture("VideoMAEForVideoClassification", VIDEO, CLIPS),
    "TimeSformer": Architecture("TimesformerForVideoClassification", VIDEO, CLIPS),
    "ViViT": Architecture("VivitForVideoClassification", {**VIDEO, "tubelet_size": [2, 16, 16]}, CLIPS),
    "PatchTST": Architecture(
        "PatchTSTForClassification",
        {**SERIES, "d_model": 32, "ffn_dim": 64},
        (2, 32, 3),
    ),
    "PatchTSMixer": Architecture(
        "PatchTSMixerForTimeSeriesClassification",
        {**SERIES, "d_model": 16},
        (2, 32, 3),
    ),
}  # fmt: skip
