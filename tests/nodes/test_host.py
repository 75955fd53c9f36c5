"""``nodes/host.py`` against a stand-in for ComfyUI: what it asks of the host, in which order, and what it survives."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch


class Interrupted(BaseException):
    pass


class Comfy:
    """Just enough of the host, and a record of what was asked of it."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        self.interrupted = False
        self.folder = folder
        self.bars: list[tuple[int, int]] = []
        self.texts: list[tuple[str, str]] = []
        self.disable_metadata = False
        self.registered: dict[str, tuple[list[str], set[str]]] = {}

    def modules(self) -> dict[str, ModuleType]:
        comfy = self

        class Patcher:
            def __init__(self, model, load_device, offload_device):
                self.model, self.load_device, self.offload_device = model, load_device, offload_device

        class ProgressBar:
            def __init__(self, total):
                comfy.bars.append((0, total))

            def update_absolute(self, value, total=None):
                comfy.bars.append((value, total))

        class ExecutionBlocker:
            def __init__(self, message):
                self.message = message

        def check():
            if comfy.interrupted:
                raise Interrupted

        def add(name, path):
            comfy.registered.setdefault(name, ([], set()))[0].append(path)

        contents = {
            "comfy": {},
            "comfy.model_management": {
                "get_torch_device": lambda: torch.device("cpu"),
                "unet_offload_device": lambda: torch.device("cpu"),
                "intermediate_device": lambda: torch.device("cpu"),
                "load_models_gpu": lambda models, memory_required=0: comfy.asked.append("load"),
                "soft_empty_cache": lambda: comfy.asked.append("empty"),
                "is_oom": lambda error: "out of memory" in str(error),
                "throw_exception_if_processing_interrupted": check,
            },
            "comfy.model_patcher": {"ModelPatcher": Patcher, "CoreModelPatcher": Patcher},
            "comfy.utils": {"ProgressBar": ProgressBar},
            "comfy.cli_args": {"args": SimpleNamespace(disable_metadata=comfy.disable_metadata)},
            "comfy_execution": {},
            "comfy_execution.graph_utils": {"ExecutionBlocker": ExecutionBlocker},
            "folder_paths": {
                "models_dir": str(self.folder / "models"),
                "folder_names_and_paths": self.registered,
                "add_model_folder_path": add,
                "get_filename_list": lambda key: ["b.safetensors", "a.SafeTensors", "readme.md"],
                "get_folder_paths": lambda key: [str(self.folder / "models" / key), str(self.folder / "extra")],
                "get_full_path": lambda key, name: f"/models/{name}" if name.endswith(".safetensors") else None,
                "get_temp_directory": lambda: str(self.folder / "temp"),
                "get_output_directory": lambda: str(self.folder / "out"),
                "get_save_image_path": lambda prefix, root, w, h: (root, f"{prefix}-{w}", 1, "", prefix),
            },
            "server": {"PromptServer": SimpleNamespace(instance=SimpleNamespace(send_progress_text=self.show))},
        }
        made = {}
        for name, members in contents.items():
            made[name] = ModuleType(name)
            made[name].__dict__.update(members)
            made[name].__path__ = []  # type: ignore[attr-defined]
        return made

    def show(self, text: str, node: str) -> None:
        self.texts.append((text, node))


@pytest.fixture
def comfy(monkeypatch, tmp_path, part):
    """A stand-in host for one test."""
    stand_in = Comfy(tmp_path)
    for name, module in stand_in.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    part("nodes.host")._load.cache_clear()
    yield stand_in
    part("nodes.host")._load.cache_clear()


def test_the_nets_belong_to_the_memory_manager_and_are_loaded_once(comfy, part) -> None:
    host = part("nodes.host")
    models = host.load_models()
    assert models is host.load_models() and comfy.asked == []
    nets = list(models.patcher.model)
    detector = models.pipeline.detector
    assert nets == [detector.net, detector.verifier.net, models.pipeline.classifier.net]
    assert host.ready(models) is models.pipeline and host.ready(None) is models.pipeline
    assert comfy.asked == ["load", "load"]
    assert host.load_models(precision="float32") is not models
    assert [host.load_models(flip=flip).pipeline.classifier.flip for flip in (False, True)] == [False, True]
    assert list(host.load_models("whole-image").patcher.model) != []


def test_the_hosts_own_word_for_out_of_memory_halves_the_chunk(comfy, part) -> None:
    pipeline = part("nodes.host").load_models().pipeline
    seen = []
    detect = pipeline.detector.detect

    def tight(batch):
        seen.append(len(batch))
        if len(batch) > 2:
            raise RuntimeError("this device is out of memory")
        return detect(batch)

    pipeline.detector.detect = tight
    assert pipeline(torch.zeros(6, 64, 64, 3)).images == 6
    assert seen == [4, 2, 2, 2]
    assert "empty" in comfy.asked
    pipeline.detector.detect = lambda batch: (_ for _ in ()).throw(RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        pipeline(torch.zeros(6, 64, 64, 3))


def test_the_button_is_asked_about_inside_a_net(comfy, part) -> None:
    pipeline = part("nodes.host").load_models(precision="float32").pipeline
    layers = [layer for layer in pipeline.detector.net.modules() if isinstance(layer, torch.nn.Conv2d)]
    ran = []

    def press_stop_at_the_fifth(*_) -> None:
        ran.append(1)
        comfy.interrupted = len(ran) == 5

    for layer in layers:
        layer.register_forward_hook(press_stop_at_the_fifth)
    with pytest.raises(Interrupted):
        pipeline(torch.zeros(2, 64, 64, 3))
    assert len(ran) == 5 < len(layers)


def test_progress_moves_and_an_interruption_stops_within_a_chunk(comfy, node, part, models, pictures) -> None:
    image = pictures(*"fmfmf")
    node("AnigenderDetect").detect(image, models=models, unique_id="7")
    assert comfy.bars == [(0, 5), (2, 5), (4, 5), (5, 5)]
    assert comfy.texts == [("5 pictures: 3 female, 2 male", "7")]
    classify, calls = models.classifier.classify, []

    def press_stop(crops):
        calls.append(len(crops))
        comfy.interrupted = True
        return classify(crops)

    models.classifier.classify = press_stop
    with pytest.raises(Interrupted):
        node("AnigenderDetect").detect(image, models=models)
    assert len(calls) == 1
    with pytest.raises(Interrupted):
        node("AnigenderDetect").detect(image, models=models)
    assert len(calls) == 1, "not even begun"
    with pytest.raises(Interrupted):
        part("nodes.host").preview(image)
    models.classifier.classify, comfy.interrupted = classify, False
    boxes = node("AnigenderDetect").detect(image, models=models)[4]
    comfy.bars.clear()
    node("AnigenderFromBoundingBoxes").classify(image, "head", bounding_boxes=boxes, models=models)
    assert comfy.bars == [(0, 5), (2, 5), (4, 5), (5, 5)]


def test_blocking_is_the_hosts(comfy, node, models, pictures) -> None:
    kept = node("AnigenderFilterBatch").filter(pictures("m"), models=models)[0]
    assert type(kept).__name__ == "ExecutionBlocker" and kept.message is None


def test_models_of_the_hosts_folder_are_offered(comfy, pack, part) -> None:
    host = part("nodes.host")
    declared = pack.NODE_CLASS_MAPPINGS["AnigenderLoadModels"].INPUT_TYPES()["required"]
    assert declared["detector"][0] == [
        "auto",
        "head",
        "whole-image",
        "animeface-2009",
        "lbpcascade_animeface",
        "face_detect_v1.4_n",
        "face_detect_v1.4_s",
        "a.SafeTensors",
        "b.safetensors",
    ]
    published = [f"animeGender-dvgg-{name}" for name in ("0.8-alpha", "0.8-beta", "0.7")]
    assert declared["classifier"][0] == ["auto", *published, "a.SafeTensors", "b.safetensors"]
    assert comfy.registered == {"anigender": ([str(comfy.folder / "models" / "anigender")], set())}
    assert host.model_path("b.safetensors") == "/models/b.safetensors" and host.model_path("auto") == "auto"


def test_files_are_offered_for_what_they_say_that_they_are(comfy, part, monkeypatch, tmp_path) -> None:
    host, weights = part("nodes.host"), part("anigender.weights")
    for kind in ("classifier", "detector", "quality", "characters", ""):
        metadata = {"anigender.kind": kind} if kind else {}
        weights.save_weights(tmp_path / f"{kind or 'unsaid'}.safetensors", {"a": torch.zeros(1)}, metadata)
    (tmp_path / "net.pth").write_bytes(b"")
    folders = sys.modules["folder_paths"]
    monkeypatch.setattr(folders, "get_filename_list", lambda key: [path.name for path in tmp_path.iterdir()])
    monkeypatch.setattr(folders, "get_full_path", lambda key, name: str(tmp_path / name))
    for kind in ("classifier", "detector", "quality", "characters"):
        assert host.model_files(kind) == sorted([f"{kind}.safetensors", "net.pth", "unsaid.safetensors"])


def test_folders_of_extra_model_paths_stand_beside_the_packs_own(comfy, part) -> None:
    comfy.registered["anigender"] = (["/elsewhere"], set())
    for _ in range(2):
        part("nodes.host").model_locations()
    assert comfy.registered["anigender"][0] == ["/elsewhere", str(comfy.folder / "models" / "anigender")]


def test_settings_beside_models_are_no_detectors(comfy, part, monkeypatch) -> None:
    names = ["boxes.json", "a.pth", "a.json", "b.onnx", "b.onnx.json", "sub/c.safetensors", "sub/c.json", "c.json"]
    monkeypatch.setattr(sys.modules["folder_paths"], "get_filename_list", lambda key: [*names, "head.config.json"])
    assert part("nodes.host").model_files("detector", (".json",)) == ["boxes.json", "c.json"]


def test_a_name_that_comes_over_a_link_has_no_stamp(comfy, pack) -> None:
    assert pack.NODE_CLASS_MAPPINGS["AnigenderLoadModels"].IS_CHANGED(None, "auto", "auto") == ""


def test_files_go_where_the_host_says(comfy, node, models, pictures) -> None:
    node("AnigenderPreview").preview(pictures("f"), models=models)
    assert len(list((comfy.folder / "temp").iterdir())) == 1
    out = node("AnigenderSaveImages").save([pictures("f")], filename_prefix=["x"], models=[models], prompt=[{"1": 2}])
    assert [Path(path).name for path in out["result"][0]] == ["x-160_00001.png"]
    assert Path(out["result"][0][0]).parent == comfy.folder / "out"


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("%date:yyyy-MM-dd%/a", "2026-03-05/a"),
        ("%date:yyMMdd_hhmmss%", "260305_070908"),
        ("%date:d.M.yy h:m:s%", "5.3.26 7:9:8"),
        ("%date:yyyy%-%date:MM%", "2026-03"),
        ("%date:yyy 'o'%", "yyy 'o'"),  # letters that the browser leaves alone too
        ("%width%x%year%-%date:%-%date%", "%width%x%year%-%date:%-%date%"),  # the host's, and none
        ("date:yyyy", "date:yyyy"),
    ],
)
def test_dates_are_filled_in_as_the_browser_does_for_the_hosts_own_nodes(part, prefix: str, name: str) -> None:
    assert part("nodes.host").dated(prefix, time.struct_time((2026, 3, 5, 7, 9, 8, 3, 64, 0))) == name


def test_metadata_can_be_turned_off(comfy, part, monkeypatch) -> None:
    texts = part("nodes.host").png_texts
    assert texts({"1": 2}, {"workflow": []}) == {"prompt": '{"1": 2}', "workflow": "[]"}
    assert texts(None, None) == {}
    monkeypatch.setattr(sys.modules["comfy.cli_args"].args, "disable_metadata", True)
    assert texts({"1": 2}, {"workflow": []}) == {}


def test_without_a_host_nothing_of_it_is_imported(part, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "server", ModuleType("server"))
    host = part("nodes.host")
    assert host._host("server") is None and host.model_files("classifier") == []
    host.show_text("x", "1")
    host.progress(3)(1, 3)
    assert host.output_device().type == "cpu"


def test_a_host_that_lacks_a_module_is_survived_but_a_broken_one_is_not(comfy, part, monkeypatch, tmp_path) -> None:
    host = part("nodes.host")
    assert host._host("comfy_execution.graph") is None and host._host("not_there") is None
    (tmp_path / "broken_host.py").write_text("import something_missing_entirely")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="something_missing_entirely"):
        host._host("broken_host")


def test_a_known_model_is_found_in_every_folder_of_the_host(comfy, part, monkeypatch) -> None:
    host, known = part("nodes.host"), part("anigender.known_models")
    weights = part("anigender.weights").ASSETS / "gender.safetensors"
    model = known.KnownModel(
        "theirs", "classifier", "a test", (known.KnownFile("theirs.safetensors"),), "MIT", "none", 8, "some/where"
    )
    monkeypatch.setattr(known, "_MODELS", (model,))
    downloads = part("anigender.downloads")
    offline = downloads.Hub("http://127.0.0.1:9", comfy.folder / "hub", comfy.folder / "own", offline=True)
    monkeypatch.setattr(downloads.Hub, "from_environment", classmethod(lambda cls: offline))
    with pytest.raises(OSError, match="theirs is not on this machine and HF_HUB_OFFLINE is set"):
        host.load_models(classifier="theirs")
    (comfy.folder / "extra" / "below").mkdir(parents=True)
    (comfy.folder / "extra" / "below" / "theirs.safetensors").write_bytes(weights.read_bytes())
    assert host.model_locations()[1] == comfy.folder / "extra"
    assert host.load_models(classifier="theirs").pipeline.classifier.size == 112
