"""Test-only nodes, put into the temporary custom_nodes folder of the host under test and nowhere else.

A prompt can only carry what some node makes, so what no stock node makes (pictures that break the image contract, a
checkpoint small enough to sample with on a CPU, the inside of a value) is made here. ComfyUI is imported where it is
used: pytest looks into this file too.
"""

from __future__ import annotations

import json
from typing import Any

import torch


class AnyType(str):
    """A socket type that fits every other one."""

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = str.__hash__


ANY = AnyType("*")


class BadImage:
    """An ``IMAGE`` that breaks the contract in one way."""

    CATEGORY, FUNCTION, RETURN_TYPES = "host tests", "make", ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"what": (["nan", "infinity", "empty", "no-height", "rank-3", "channels-2"],)}}

    def make(self, what: str) -> tuple[torch.Tensor]:
        image = torch.full((3, 96, 64, 3), 0.5)
        if what in ("nan", "infinity"):
            image[1, 10, 10, 0] = float(what)
        broken = {"empty": image[:0], "no-height": image[:, :0], "rank-3": image[0], "channels-2": image[..., :2]}
        return (broken.get(what, image),)


class Noise:
    """A batch of grey noise, reproducible from its seed."""

    CATEGORY, FUNCTION, RETURN_TYPES = "host tests", "make", ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        sizes = {name: ("INT", {"default": 64, "max": 8192}) for name in ("batch", "width", "height")}
        return {"required": {**sizes, "seed": ("INT", {"default": 0, "max": 2**32})}}

    def make(self, batch: int, width: int, height: int, seed: int) -> tuple[torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return (torch.rand(batch, height, width, 1, generator=generator).expand(-1, -1, -1, 3).contiguous(),)


class Describe:
    """Shows what it is given as JSON: the items of the list, each with its make-up."""

    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "host tests", "describe", (), True
    INPUT_IS_LIST = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": (ANY, {})}}

    def describe(self, value: list[Any]) -> dict[str, Any]:
        return {"ui": {"text": [json.dumps([plain(item) for item in value], ensure_ascii=False)]}}


def plain(value: Any) -> Any:
    """A value as JSON can hold it; arrays as their shape, type, device and range."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        array = torch.as_tensor(value)
        numbers = array.double()
        extent = [float(numbers.min()), float(numbers.max()), float(numbers.mean())] if array.numel() else None
        module = type(value).__module__.split(".")[0]
        kind = {"shape": list(array.shape), "dtype": str(array.dtype), "device": str(array.device), "of": module}
        return {**kind, "range": extent}
    if hasattr(value, "_asdict"):
        return {"__type__": type(value).__name__, **{name: plain(item) for name, item in value._asdict().items()}}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return {"__type__": type(value).__name__}


class StopInside:
    """Presses stop once, while the detector's net runs; its convolutions that end go into the log by number."""

    CATEGORY, FUNCTION, RETURN_TYPES = "host tests", "arm", ("ANIGENDER",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"models": ("ANIGENDER",), "layer": ("INT", {"default": 5})}}

    def arm(self, models: Any, layer: int) -> tuple[Any]:
        from comfy import model_management

        def press(*_: Any) -> None:
            once.remove()
            print("host test layer: stop", flush=True)
            model_management.interrupt_current_processing()

        layers = [part for part in models.pipeline.detector.net.modules() if isinstance(part, torch.nn.Conv2d)]
        once = layers[layer].register_forward_pre_hook(press)
        for i, part in enumerate(layers):
            part.register_forward_hook(lambda *_, i=i: print(f"host test layer: {i}", flush=True))
        return (models,)


class CallDetector:
    """Calls a ``BBOX_DETECTOR`` as the packs that consume one do: with five arguments, and with all."""

    CATEGORY, FUNCTION, RETURN_TYPES = "host tests", "call", ("SEGS", "SEGS", "MASK")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"detector": (ANY, {}), "image": ("IMAGE",)}}

    def call(self, detector: Any, image: torch.Tensor) -> tuple[Any, ...]:
        detector.setAux("face")
        short = detector.detect(image, 0.3, 4, 3.0, 10)
        whole = detector.detect(image, 0.3, 4, 3.0, drop_size=10, detailer_hook=None)
        mask = detector.detect_combined(image, 0.3, 4)
        return short, whole, torch.zeros(image.shape[1:3]) if mask is None else mask


class NoCropSegs:
    """SEGS as some detectors give them: boxes with a mask each and ``cropped_image`` None."""

    CATEGORY, FUNCTION, RETURN_TYPES = "host tests", "make", ("SEGS",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image": ("IMAGE",), "boxes": ("STRING", {"default": "[]"})}}

    def make(self, image: torch.Tensor, boxes: str) -> tuple[Any]:
        from collections import namedtuple

        names = ["cropped_image", "cropped_mask", "confidence", "crop_region", "bbox", "label", "control_net_wrapper"]
        SEG = namedtuple("SEG", names, defaults=[None])
        height, width = image.shape[1:3]
        segs = []
        for x1, y1, x2, y2 in json.loads(boxes):
            mask = torch.zeros(y2 - y1, x2 - x1).numpy()
            mask[2:-2, 2:-2] = 1
            segs.append(SEG(None, mask, 0.75, [x1, y1, x2, y2], (x1, y1, x2, y2), "face"))
        return (((height, width), segs),)


class TinyCheckpoint:
    """MODEL, CLIP and VAE of Stable Diffusion's make but tiny and random: what sampling nodes need to really run."""

    CATEGORY, FUNCTION, RETURN_TYPES = "host tests", "load", ("MODEL", "CLIP", "VAE")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {}}

    def load(self) -> tuple[Any, ...]:
        from comfy import model_base, model_patcher, sd, supported_models

        shape = {
            **{"image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1, 1]},
            **{"channel_mult": [1, 2], "transformer_depth": [0, 1], "transformer_depth_output": [0, 0, 1, 1]},
            **{"transformer_depth_middle": 1, "context_dim": 64, "num_heads": 2, "num_head_channels": -1},
            **{
                "use_spatial_transformer": True,
                "use_linear_in_transformer": False,
                "legacy": False,
                "adm_in_channels": None,
            },
            **{"use_temporal_attention": False, "dtype": torch.float32},
        }
        model = model_base.BaseModel(supported_models.SD15(shape), device=torch.device("cpu"))
        coder = {
            **{"double_z": True, "z_channels": 4, "resolution": 64, "in_channels": 3, "out_ch": 3, "ch": 32},
            **{"ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0},
        }
        config = {"params": {"ddconfig": coder, "embed_dim": 4}}
        net = sd.AutoencoderKL(**config["params"])
        vae = sd.VAE(sd=_random(net), config=config)
        _random(model.diffusion_model)
        device = torch.device("cpu")
        return model_patcher.ModelPatcher(model, load_device=device, offload_device=device), TinyText(), vae


class TinyClipVision:
    """The host's own CLIP vision model, tiny and random: 32 pixels, embeddings of 16 values."""

    CATEGORY, FUNCTION, RETURN_TYPES = "host tests", "load", ("CLIP_VISION",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {}}

    def load(self) -> tuple[Any]:
        from comfy import clip_vision

        shape = {
            **{"model_type": "clip_vision_model", "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
            **{"image_size": 32, "patch_size": 8, "num_channels": 3, "hidden_size": 32, "intermediate_size": 64},
            **{"num_attention_heads": 2, "num_hidden_layers": 2, "projection_dim": 16},
        }
        model = clip_vision.ClipVisionModel(shape)
        model.load_sd(_random(model.model, 0.5))
        return (model,)


def _random(net: torch.nn.Module, scale: float = 0.02) -> dict[str, torch.Tensor]:
    """Fills a net with reproducible numbers (the host leaves new weights uninitialised); its state."""
    generator = torch.Generator().manual_seed(0)
    for weights in net.parameters():
        weights.data = torch.randn(weights.shape, generator=generator) * scale
    return net.state_dict()


class TinyText:
    """A text encoder's outside: embeddings that depend on the text's length alone. Every text is put into the log."""

    def tokenize(self, text: str, **_: Any) -> str:
        print(f"host test prompt: {text!r}")
        return text

    def encode_from_tokens(self, tokens: str, return_pooled: bool = False, return_dict: bool = False, **_: Any) -> Any:
        embedding = torch.full((1, 77, 64), len(tokens) / 1000)
        pooled = torch.zeros(1, 64)
        if return_dict:
            return {"cond": embedding, "pooled_output": pooled}
        return (embedding, pooled) if return_pooled else embedding

    def encode_from_tokens_scheduled(self, tokens: str, **_: Any) -> list[Any]:
        return [[self.encode_from_tokens(tokens), {"pooled_output": torch.zeros(1, 64)}]]

    def clone(self) -> TinyText:
        return self


NODE_CLASS_MAPPINGS = {
    f"HostTest{node.__name__}": node
    for node in (BadImage, Noise, Describe, StopInside, CallDetector, NoCropSegs, TinyCheckpoint, TinyClipVision)
}
