"""Networks of transformers, built from their configurations, converted with nothing said but their processor."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn

import onnxviz as ov
from onnxviz import conversion
from onnxviz.errors import InputError, OptionError
from onnxviz_torch.processors import TEXT, class_names, example
from tests.support import assert_close, mlp

NAMES = ("Egyptian cat", "espresso", "pot")
LABELS = {"id2label": dict(enumerate(NAMES)), "label2id": {name: i for i, name in enumerate(NAMES)}}
SIZE = {"height": 32, "width": 32}
ENCODER = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, **LABELS,
}  # fmt: skip
PATCHES = {**ENCODER, "image_size": 32, "patch_size": 8}

PICTURES = {
    "ViT": (PATCHES, ("ViT", {"size": SIZE})),
    "ConvNext": (
        {"depths": [1, 1], "hidden_sizes": [8, 16], "num_stages": 2, **LABELS},
        ("ConvNext", {"size": {"shortest_edge": 64}}),
    ),
    "DeiT": (PATCHES, ("DeiT", {"size": {"height": 40, "width": 40}, "crop_size": SIZE})),
    "ResNet": (
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic", **LABELS},
        ("ConvNext", {"size": {"shortest_edge": 64}}),
    ),
    "MobileNetV2": (
        {"image_size": 64, "depth_multiplier": 0.35, **LABELS},
        ("MobileNetV2", {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}}),
    ),
    "Swin": (
        {"image_size": 32, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4,
         "attn_implementation": "eager", **LABELS},
        ("ViT", {"size": SIZE, "resample": 3}),
    ),
}  # fmt: skip
"""Network → its configuration, and the kind of its image processor with its options."""
QUICK = {"ViT"}


def network(name: str, kind: str, config: dict[str, object]) -> nn.Module:
    torch.manual_seed(0)
    return getattr(transformers, f"{name}For{kind}")(getattr(transformers, f"{name}Config")(**config)).eval()


def image_processor(name: str, options: dict[str, object]) -> object:
    return getattr(transformers, f"{name}ImageProcessorPil")(**options)


@pytest.fixture(scope="module")
def tokenizer() -> transformers.PreTrainedTokenizerFast:
    words = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *sorted(set(TEXT.split()))])}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]")


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    y, x = np.mgrid[:60, :84]
    return np.stack([4 * y, 3 * x, 128 + 100 * np.sin(x / 9 + y / 7)], axis=2).astype(np.uint8)


# ----- pictures -----


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in PICTURES]
)
def test_a_photo_is_explained_with_nothing_more_said(name, photo, tmp_path):
    config, (kind, options) = PICTURES[name]
    model, processor = network(name, "ImageClassification", config), image_processor(kind, options)
    with ov.load(ov.convert(model, tmp_path / "net.onnx", processor=processor, quiet=True), providers="cpu") as ex:
        prepared = torch.tensor(processor(Image.fromarray(photo), return_tensors="np")["pixel_values"])
        np.testing.assert_allclose(ex.read_image(photo), prepared, rtol=1e-5, atol=2e-6)
        assert ex.classes == NAMES
        logits = model(prepared.requires_grad_()).logits
        assert_close(ex.predict(photo), logits.detach().numpy(), 1e-4)
        assert all(NAMES[index] == name for index, name, _ in ex.top(photo)[0])
        (slope,) = torch.autograd.grad(logits[:, 2].sum(), prepared)
        assert_close(ex.gradient(prepared.detach().numpy(), target=2), slope.numpy(), 1e-4)
        Image.fromarray(photo).save(tmp_path / "photo.png")
        assert ex.explain(tmp_path / "photo.png").shape == (1, *photo.shape[:2])


def test_a_folder_or_a_dict_says_the_same(tmp_path):
    """Of any kind of model, here of an ONNX file."""
    processor = image_processor("ViT", {"size": {"height": 6, "width": 8}})
    processor.save_pretrained(tmp_path)
    pool = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 18]> g (float[N, 3, 6, 8] x) => (float[N, 3] y)'
        "{ p = GlobalAveragePool(x) y = Flatten(p) }"
    )
    for said in (processor, tmp_path, processor.to_dict()):
        with ov.load(ov.convert(pool, tmp_path / "net.onnx", processor=said, quiet=True)) as ex:
            assert ex.image_input == ov.ImageInput.from_processor(processor)


def test_keras_has_its_channels_last(tmp_path):
    processor = image_processor("ViT", {"size": SIZE})
    (tmp_path / "net.keras").write_bytes(b"a model")
    found = conversion._image_input(processor, None, tmp_path / "net.keras")
    assert found == ov.ImageInput.from_processor(processor, layout="NHWC")


def test_of_another_library_only_the_pictures_are_taken(tmp_path):
    """Whose ``forward`` calls them as it likes, and whose examples need not be of the processor."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    processor = image_processor("ViT", {"size": {"height": 8, "width": 8}, "image_mean": [0.1], "image_std": [0.3]})
    with ov.load(ov.convert(model, tmp_path / "net.onnx", processor=processor, quiet=True)) as ex:
        assert ex.inputs[0].shape == ("N", 1, 8, 8)
        grey = np.full((9, 9), 200, np.uint8)
        np.testing.assert_allclose(ex.read_image(grey), np.full((1, 1, 8, 8), (200 / 255 - 0.1) / 0.3), rtol=1e-5)


# ----- text and sound -----


LAYER = "bert.embeddings.word_embeddings"


def test_text(tokenizer, tmp_path):
    model = network("Bert", "SequenceClassification", {"vocab_size": len(tokenizer), **ENCODER})
    written = ov.convert(model, tmp_path / "net.onnx", processor=tokenizer, open_sizes=True, layers=LAYER, quiet=True)
    with ov.load(written, providers="cpu") as ex:
        assert ex.classes == NAMES
        assert [tensor.name for tensor in ex.inputs] == ["input_ids", "attention_mask"]
        ids = dict(tokenizer("jumps the lazy fox", return_tensors="np"))
        found = ex.gradient(ids, target=1, layer=LAYER)
        embedded = model.bert.embeddings.word_embeddings(torch.tensor(ids["input_ids"])).detach().requires_grad_()
        mask = torch.tensor(ids["attention_mask"])
        (slope,) = torch.autograd.grad(model(inputs_embeds=embedded, attention_mask=mask).logits[:, 1].sum(), embedded)
        assert_close(found, slope.numpy(), 1e-4)


SOUND = {
    "Wav2Vec2": (
        {**ENCODER, "conv_dim": [8, 8], "conv_kernel": [10, 3], "conv_stride": [40, 20], "num_feat_extract_layers": 2,
         "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 8},
        "SequenceClassification", transformers.Wav2Vec2FeatureExtractor, {}, (1, 16000),
    ),
    "AST": (
        {**ENCODER, "max_length": 32, "num_mel_bins": 16, "patch_size": 8}, "AudioClassification",
        transformers.ASTFeatureExtractor, {"max_length": 32, "num_mel_bins": 16}, (1, 32, 16),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_an_example_of_sound(name):
    config, kind, extractor, options, shape = SOUND[name]
    made = example(extractor(**options), network(name, kind, config))
    assert {input: array.shape for input, array in made.items()} == {"input_values": shape}


@pytest.mark.long
@pytest.mark.parametrize("name", SOUND)
def test_sound(name, tmp_path):
    config, kind, extractor, options, shape = SOUND[name]
    model = network(name, kind, config)
    written = ov.convert(model, tmp_path / "net.onnx", processor=extractor(**options), quiet=True)
    with ov.load(written, providers="cpu") as ex:
        assert ex.classes == NAMES
        sound = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        inputs = torch.tensor(sound, requires_grad=True)
        (slope,) = torch.autograd.grad(model(inputs).logits[:, 2].sum(), inputs)
        assert_close(ex.gradient(sound, target=2), slope.numpy(), 1e-4)


def test_text_and_pictures_together(tokenizer, tmp_path):
    """Each part makes its own inputs, the pictures first, for they are what a photo is read into."""
    both = transformers.CLIPProcessor(
        image_processor=image_processor("CLIP", {"size": {"shortest_edge": 40}, "crop_size": SIZE}), tokenizer=tokenizer
    )
    config = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    clip = transformers.CLIPModel(
        transformers.CLIPConfig(
            text_config={**config, "vocab_size": len(tokenizer)},
            vision_config={**config, "image_size": 32, "patch_size": 8},
        )
    )
    made = example(both, clip)
    assert {name: array.shape for name, array in made.items()} == {
        "pixel_values": (1, 3, 32, 32), "input_ids": (1, 9), "attention_mask": (1, 9),
    }  # fmt: skip
    assert next(iter(made)) == "pixel_values"
    both.save_pretrained(tmp_path)
    assert ov.ImageInput.from_processor(tmp_path) == ov.ImageInput.from_processor(both.image_processor)


# ----- names of classes -----


def test_class_names():
    model = nn.Linear(2, 3)
    assert class_names(model) is None
    for labels, expected in (
        (dict(enumerate(NAMES)), NAMES),
        ({i: f"LABEL_{i}" for i in range(3)}, None),
        ({"0": "a", "1": "b"}, None),
        ({1: "a", 2: "b"}, None),
        (None, None),
        ({}, None),
    ):
        model.config = transformers.PretrainedConfig()
        model.config.__dict__["id2label"] = labels
        assert class_names(model) == (expected or None)


def test_names_of_other_classes_are_left_out(tmp_path):
    """A network without its head knows the classes of the one that it was trained with; given names come first."""
    model = nn.Linear(2, 4)
    model.config = transformers.PretrainedConfig(**LABELS)
    with ov.load(ov.convert(model, tmp_path / "net.onnx", example=torch.ones(2, 2), quiet=True)) as ex:
        assert ex.classes is None
    model = nn.Linear(2, 3)
    model.config = transformers.PretrainedConfig(**LABELS)
    path = ov.convert(model, tmp_path / "net.onnx", example=torch.ones(2, 2), classes=["a", "b", "c"], quiet=True)
    with ov.load(path) as ex:
        assert ex.classes == ("a", "b", "c")


# ----- refusals -----


def vit() -> nn.Module:
    return network("ViT", "ImageClassification", PATCHES)


REFUSED = {
    "another size": (vit, lambda: image_processor("ViT", {}), {}, InputError,
                     r"the example \(pixel_values \(1, 3, 224, 224\).*doesn't match.*; processor= made the example"),
    "another number of channels": (
        vit, lambda: image_processor("ViT", {"size": SIZE, "image_mean": [0.5], "image_std": [0.5]}), {}, InputError,
        r"the example \(pixel_values \(1, 1, 32, 32\).*channel.*; processor= made the example"),
    "another size than the example's": (
        lambda: nn.Conv2d(3, 2, 3), lambda: image_processor("ViT", {}), {"example": torch.randn(1, 3, 32, 32)},
        OptionError, r"as processor= says, makes arrays \['N', 3, 224, 224\], and input 'input' takes.*32"),
    "said twice": (vit, lambda: image_processor("ViT", {"size": SIZE}), {"input": ov.ImageInput(32)}, OptionError,
                   "give one of them"),
    "no processor": (vit, lambda: 3, {}, OptionError, "processor=3: expected an image processor, a tokenizer"),
    "of another kind": (vit, transformers.Wav2Vec2FeatureExtractor, {}, OptionError,
                        "makes input_values, and ViTForImageClassification takes pixel_values"),
    "sound for a file": (mlp, transformers.Wav2Vec2FeatureExtractor, {}, OptionError, "is for PyTorch modules"),
    "padding": (vit, lambda: {"image_processor_type": "X", "size": 32, "do_pad": True}, {}, OptionError, "do_pad=True"),
    "sound by its configuration": (vit, lambda: {"feature_extractor_type": "X", "sampling_rate": 16000}, {},
                                   OptionError, "X prepares sound.*pass the object"),
    "no such folder": (vit, lambda: "nowhere", {}, InputError, "cannot read the image processor 'nowhere'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case, tmp_path):
    model, processor, options, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        ov.convert(model(), tmp_path / "net.onnx", processor=processor(), **options)
    assert not list(tmp_path.iterdir())
