"""Everything that knows ComfyUI: its memory manager, progress, folders and messages.

Each import of the host is made where it is needed. Without ComfyUI (in unit tests, or in a script) every function does
the plain thing instead: torch alone, no progress bar, files in the system's temporary folder.
"""

from __future__ import annotations

import importlib
import json
import logging
import re
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..anigender.classify.preprocessing import sidecars
from ..anigender.files import atomic_write_bytes
from ..anigender.inference import PRECISIONS, native_dtype
from ..anigender.locate import resolve
from ..anigender.pipeline import Pipeline, load, ran_out_of_memory
from ..anigender.png import encoded, quick_png_bytes
from ..anigender.saving import to_bytes
from ..anigender.weights import declared_kind

MODEL_SUFFIXES = (".safetensors", ".onnx", ".pth", ".pt", ".ckpt", ".bin")
MODEL_FOLDER = "anigender"  # the folder's key in folder_paths and its name below models/
# Room asked for beside the weights: 16 canvases of 640 x 640 and the widest activations of the nets.
WORKING_MEMORY = 384 * 1024 * 1024


def _host(name: str) -> Any:
    """A module of ComfyUI, or None where this process is no ComfyUI or its version has no such module."""
    if "folder_paths" not in sys.modules:  # else any module called `server` would be taken for the host's
        return None
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A module that is there but lacks something itself is broken, not absent.
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            return None
        raise


# -- models ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Models:
    """A pipeline whose nets the host may move away while nobody uses them; what the ``ANIGENDER`` socket carries.

    Attributes:
        pipeline: detector and classifier; use it through :func:`ready` only.
        patcher: the host's handle on both nets; None without a host.
    """

    pipeline: Pipeline
    patcher: Any = None

    def ready(self) -> Pipeline:
        """The pipeline with its nets where they compute."""
        if self.patcher is not None:
            management = _host("comfy.model_management")
            management.load_models_gpu([self.patcher], memory_required=WORKING_MEMORY)
            # The host's dynamic loader handles layers of its own kind only and may leave plain ones where they are.
            self.patcher.model.to(self.patcher.load_device)
        return self.pipeline


def load_models(
    detector: str = "auto", classifier: str = "auto", precision: str = "auto", flip: bool = False
) -> Models:
    """The models of these names, loaded once and kept as long as their files do not change.

    Args:
        detector, classifier: a name that the core knows, or a file of the host's model folder.
        precision: one of :data:`PRECISIONS`.
        flip: ask the classifier about mirrored faces too, whatever its file says.

    Raises:
        ValueError: a name that is neither, or a file of something else.
    """
    places = model_locations()
    found = (
        str(resolve(model_path(detector), "detector", places)),
        str(resolve(model_path(classifier), "classifier", places)),
    )
    return _load(*found, precision, flip, models_stamp(*found))


@lru_cache(maxsize=4)
def _load(detector: str, classifier: str, precision: str, flip: bool, stamp: str) -> Models:
    management, patching = _host("comfy.model_management"), _host("comfy.model_patcher")
    dtype, settings = PRECISIONS[precision], {"flip": "yes"} if flip else None
    if management is None or patching is None:
        return Models(load(detector, classifier, dtype=dtype, settings=settings))
    compute, rest = management.get_torch_device(), management.unet_offload_device()
    if dtype is None and torch.device(compute).type != "cpu":
        dtype = native_dtype(compute)  # rather than what is best where the nets wait
    pipeline = load(detector, classifier, rest, dtype, settings)
    pipeline.out_of_memory, pipeline.interrupt = out_of_memory, stop_if_interrupted
    patcher = getattr(patching, "CoreModelPatcher", patching.ModelPatcher)
    return Models(pipeline, patcher(nn.ModuleList(pipeline.nets), load_device=compute, offload_device=rest))


def out_of_memory(error: Exception) -> bool:
    """The host knows how each kind of device says it; what it had cached is given back first."""
    management = _host("comfy.model_management")
    known = getattr(management, "is_oom", ran_out_of_memory)
    if not (ran_out_of_memory(error) or known(error)):
        return False
    logging.warning("anigender: out of memory, going on with half as many pictures at once")
    if management is not None:
        management.soft_empty_cache()
    return True


def ready(models: Models | Pipeline | None) -> Pipeline:
    """The pipeline to use for what came through a socket: the embedded one for None."""
    models = load_models() if models is None else models
    return models.ready() if isinstance(models, Models) else models


def models_stamp(*names: str | None) -> str:
    """Changes when one of these files, or the settings beside it, changes; names that are no files never do.

    None stands for a name that comes over a link: the host itself sees when that changes.
    """
    paths = (Path(model_path(name)) for name in names if name is not None)
    files = [path for path in paths if path.is_file()]
    stamps = [file.stat() for model in files for file in (model, *sidecars(model))]
    return ",".join(f"{stamp.st_mtime_ns}:{stamp.st_size}" for stamp in stamps)


def model_files(kind: str, endings: tuple[str, ...] = MODEL_SUFFIXES) -> list[str]:
    """Files with these endings in the host's folders for this pack, by the names that the host shows.

    Those that say that they are of another kind (:func:`anigender.weights.declared_kind`) are left out, and so are the
    settings that lie beside a model (:func:`anigender.classify.preprocessing.sidecars`; ``.config.json``).
    """
    folders = _model_folders()
    if folders is None:
        return []
    listed = folders.get_filename_list(MODEL_FOLDER)
    models = {Path(name).with_suffix("") for name in listed if name.lower().endswith(MODEL_SUFFIXES)}

    def settings(name: str) -> bool:
        stem = Path(name).with_suffix("")
        beside = stem in models or stem.with_suffix("") in models  # of net.safetensors or of net
        return name.lower().endswith(".config.json") or (name.lower().endswith(".json") and beside)

    names = (name for name in listed if name.lower().endswith(endings) and not settings(name))
    return sorted(name for name in names if declared_kind(Path(model_path(name))) in ("", kind))


def model_path(name: str) -> str:
    """The path of a file of the host's model folder; any other name as it is."""
    folders = _model_folders()
    path = None if folders is None else folders.get_full_path(MODEL_FOLDER, name)
    return name if path is None else path


def _model_folders() -> Any:
    """``folder_paths`` with this pack's model folder in it, beside those that extra_model_paths.yaml has added."""
    folders = _host("folder_paths")
    if folders is not None:
        own = str(Path(folders.models_dir) / MODEL_FOLDER)
        known = folders.folder_names_and_paths.get(MODEL_FOLDER)
        if known is None or own not in known[0]:
            folders.add_model_folder_path(MODEL_FOLDER, own)
    return folders


def model_locations() -> list[Path]:
    """The host's folders for this pack's models, those of extra_model_paths.yaml among them."""
    folders = _model_folders()
    return [] if folders is None else [Path(folder) for folder in folders.get_folder_paths(MODEL_FOLDER)]


RECOGNISER_SUFFIXES = (".skops", ".safetensors")


def recogniser_files() -> list[str]:
    """Files of this pack's model folder that are recognisers of characters, by the names that the host shows."""
    from ..anigender.characters import is_recogniser

    return [name for name in model_files("characters", RECOGNISER_SUFFIXES) if is_recogniser(Path(model_path(name)))]


def load_recogniser(name: str) -> Any:
    """A recogniser of the host's model folder (or by its path), loaded once, its net where it computes.

    Raises:
        FileNotFoundError, ValueError, ImportError: as of :func:`anigender.characters.read_recogniser`.
    """
    path = model_path(name)
    recogniser, patcher = _load_recogniser(path, models_stamp(path))
    if patcher is not None:
        _host("comfy.model_management").load_models_gpu([patcher], memory_required=WORKING_MEMORY)
        patcher.model.to(patcher.load_device)
    return recogniser


@lru_cache(maxsize=4)
def _load_recogniser(path: str, stamp: str) -> tuple[Any, Any]:
    from ..anigender.characters import read_recogniser

    management, patching = _host("comfy.model_management"), _host("comfy.model_patcher")
    if management is None or patching is None:
        return read_recogniser(Path(path)), None
    compute, rest = management.get_torch_device(), management.unet_offload_device()
    recogniser = read_recogniser(Path(path), rest, model_locations())
    if not recogniser.nets:
        return recogniser, None
    patcher = getattr(patching, "CoreModelPatcher", patching.ModelPatcher)
    return recogniser, patcher(nn.ModuleList(recogniser.nets), load_device=compute, offload_device=rest)


class HostEncoder:
    """The host's own ``CLIP_VISION`` as an encoder of :mod:`anigender.quality`; the host moves and keeps it.

    Args:
        clip_vision: what Load CLIP Vision gives.

    Raises:
        ValueError: it is of a kind that has no image embeddings of CLIP.
    """

    def __init__(self, clip_vision: Any) -> None:
        kind = getattr(clip_vision, "model_type", "clip_vision_model")
        if kind != "clip_vision_model":
            raise ValueError(f"the connected encoder is a {kind}; quality heads look through a CLIP ViT-L/14")
        self.clip_vision = clip_vision
        self.size = int(clip_vision.image_size)
        weight = getattr(getattr(clip_vision.model, "visual_projection", None), "weight", None)
        self.width = None if weight is None else int(weight.shape[0])

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return torch.device(self.clip_vision.load_device)

    def encode(self, tiles: Tensor) -> Tensor:
        """Pictures ``[N, 3, size, size]`` in 0-1 to embeddings; the host normalises them itself."""
        return self.clip_vision.encode_image(tiles.movedim(1, -1))["image_embeds"]


# -- running -----------------------------------------------------------------------------------------------------------


def stop_if_interrupted() -> None:
    """Raise the host's own exception where the user has pressed stop."""
    management = _host("comfy.model_management")
    if management is not None:
        management.throw_exception_if_processing_interrupted()


def progress(total: int) -> Callable[[int, int], None]:
    """A callback for (done, in all): moves the node's progress bar, and raises when the user has interrupted."""
    utilities = _host("comfy.utils")
    if utilities is None:
        return lambda done, total: None
    bar = utilities.ProgressBar(total)

    def advance(done: int, total: int) -> None:
        stop_if_interrupted()
        bar.update_absolute(done, total)

    stop_if_interrupted()
    return advance


def output_device() -> torch.device:
    """Where the host wants what nodes give out."""
    management = _host("comfy.model_management")
    return torch.device("cpu") if management is None else management.intermediate_device()


def show_text(text: str, node: str | None) -> None:
    """Write a text onto a node in the browser, where there is one."""
    server = _host("server") if node is not None else None
    instance = getattr(getattr(server, "PromptServer", None), "instance", None)
    if instance is not None and hasattr(instance, "send_progress_text"):
        instance.send_progress_text(text, node)


@dataclass(frozen=True)
class Blocked:
    """What stands for the host's ExecutionBlocker without a host."""

    message: str | None


def blocked(message: str | None = None) -> Any:
    """A value that keeps everything behind it from running: quietly, or with a message for whoever connects it."""
    graph = _host("comfy_execution.graph_utils") or _host("comfy_execution.graph")
    return (Blocked if graph is None else graph.ExecutionBlocker)(message)


# -- files -------------------------------------------------------------------------------------------------------------


def preview(images: Tensor) -> dict[str, Any]:
    """Pictures for the node's own face, saved where the host looks for previews: a node's ``ui`` value."""
    folders = _host("folder_paths")
    folder = Path(folders.get_temp_directory() if folders is not None else tempfile.gettempdir())
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"anigender_{secrets.token_hex(8)}"
    shown = []
    with closing(encoded(to_bytes(images), quick_png_bytes)) as files:
        for i, data in enumerate(files):
            stop_if_interrupted()
            name = f"{stem}_{i:05d}_.png"
            atomic_write_bytes(folder / name, data)
            shown.append({"filename": name, "subfolder": "", "type": "temp"})
    return {"images": shown}


def dated(prefix: str, now: time.struct_time | None = None) -> str:
    """A prefix with ``%date:yyyy-MM-dd%`` and the like filled in.

    The browser does this for the host's own nodes only; the letters and what becomes of others are the browser's.
    """
    now = time.localtime() if now is None else now
    numbers = {"d": now.tm_mday, "M": now.tm_mon, "h": now.tm_hour, "m": now.tm_min, "s": now.tm_sec}
    years = {"yyyy": f"{now.tm_year:04d}", "yy": f"{now.tm_year % 100:02d}"}

    def filled(token: re.Match[str]) -> str:
        letters = token[0]
        return f"{numbers[letters[0]]:0{len(letters)}d}" if letters[0] in numbers else years.get(letters, letters)

    return re.sub("%date:([^%]+)%", lambda found: re.sub("dd?|MM?|hh?|mm?|ss?|yyy?y?", filled, found[1]), prefix)


def output_folder(prefix: str, width: int, height: int) -> tuple[Path, str, str]:
    """Where the host wants files with this prefix.

    Args:
        prefix: a file name, perhaps with folders and the host's ``%width%``, ``%year%`` and so on.
        width, height: of the pictures.

    Returns:
        The folder, the file name without number, and the folder's name relative to the host's output folder.

    Raises:
        Exception: the host refuses a prefix that leads out of its output folder.
    """
    folders = _host("folder_paths")
    if folders is None:
        path = Path(prefix)
        return Path(tempfile.gettempdir()) / path.parent, path.name, path.parent.as_posix()
    root = folders.get_output_directory()
    folder, name, _, below, _ = folders.get_save_image_path(prefix, root, width, height)
    return Path(folder), name, below


def png_texts(prompt: Any, extra: Mapping[str, Any] | None) -> dict[str, str]:
    """The workflow as the texts that the host reads back from a PNG; none where the user has turned that off."""
    arguments = _host("comfy.cli_args")
    if arguments is not None and arguments.args.disable_metadata:
        return {}
    texts = {} if prompt is None else {"prompt": prompt}
    return {name: json.dumps(value) for name, value in {**texts, **(extra or {})}.items()}
