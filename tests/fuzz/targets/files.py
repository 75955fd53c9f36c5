"""Files that come from elsewhere: cascades, weights, checkpoints, preprocessing, tables of pictures, boxes."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from anigender.checkpoints import read_checkpoint
from anigender.classify.framing import classifier_crops
from anigender.classify.preprocessing import (
    FRAMINGS,
    RESAMPLES,
    SETTINGS,
    Preprocessing,
    preprocessing,
    sidecar_settings,
)
from anigender.datasets.labelled import label_heads, read_column, read_illustrations, read_pictures, read_teacher
from anigender.datasets.picture import Picture
from anigender.detect import read_cascade_detector
from anigender.detect.given_boxes import read_given_boxes
from anigender.digests import DigestRecord
from anigender.faces import Faces
from anigender.images import check
from anigender.quantised import RANGES, declared
from anigender.weights import check_metadata, read_weights

from ..choices import Choices
from .target import Target, random_seeds

NOISE = check(torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 30, 30, 3), dtype=np.uint8)))


def run_cascade(data: bytes, folder: Path) -> None:
    """An XML file as a cascade, and what it finds in noise."""
    path = folder / "cascade.xml"
    path.write_bytes(data)
    detector = read_cascade_detector(path)
    detector.detect(NOISE)


def cascade_files() -> list[bytes]:
    """LBP and Haar cascades of stumps and of trees."""
    lbp = "<_><rect>0 0 2 2</rect></_><_><rect>1 1 3 3</rect></_>"
    haar = "<_><rects><_>0 0 6 6 -1.</_><_>3 0 3 6 2.</_></rects><tilted>0</tilted></_>"
    haar += "<_><rects><_>6 2 3 3 -1.</_><_>6 2 1 3 3.</_></rects><tilted>1</tilted></_>"
    words = "-1 2147483647 0 5 -2147483648 77 1 0"
    found = []
    for kind, features, nodes, leaves in (
        ("LBP", lbp, f"0 -1 0 {words}", "0.5 -0.5"),
        ("LBP", lbp, f"1 0 0 {words} -1 -2 1 {words}", "0.5 -0.5 0.25"),
        ("HAAR", haar, "0 -1 0 0.01", "0.5 -0.5"),
        ("HAAR", haar, "1 0 0 0.01 -1 -2 1 -0.02", "0.5 -0.5 0.25"),
    ):
        tree = f"<_><internalNodes>{nodes}</internalNodes><leafValues>{leaves}</leafValues></_>"
        stage = f"<_><stageThreshold>-1.5</stageThreshold><weakClassifiers>{tree * 2}</weakClassifiers></_>"
        found.append(
            f'<?xml version="1.0"?><opencv_storage><cascade type_id="opencv-cascade-classifier"><stageType>BOOST'
            f"</stageType><featureType>{kind}</featureType><height>12</height><width>12</width><featureParams>"
            f"<maxCatCount>{256 if kind == 'LBP' else 0}</maxCatCount></featureParams><stageNum>2</stageNum>"
            f"<stages>{stage * 2}</stages><features>{features}</features></cascade></opencv_storage>".encode()
        )
    return found


def run_weights(data: bytes, folder: Path) -> None:
    """A safetensors file, and the preprocessing that it declares."""
    path = folder / "model.safetensors"
    path.write_bytes(data)
    tensors, metadata = read_weights(path)
    assert sum(value.numel() * value.element_size() for value in tensors.values()) <= len(data)
    declared(metadata)
    preprocessing(metadata)


METADATA = {"input_size": "64", "margin": "1.5", "mean": "0.5,0.5,0.5", "std": "0.25,0.25,0.25", "labels": "girl,boy"}


def weight_files() -> list[bytes]:
    tensors = {"fc.weight": torch.zeros(2, 3), "fc.bias": torch.ones(2, dtype=torch.float16), "n": torch.tensor(3)}
    metadata = {f"anigender.{name}": value for name, value in METADATA.items()}
    header = b'{"a":{"dtype":"F32","shape":[1000000000,1000],"data_offsets":[0,4]}}'
    return [
        save(tensors, metadata),
        save(tensors, metadata | {RANGES: '{"stem.0": [-2.0, 2.0, 0.0, 11.025], "fc": [0, 1]}'}),
        save(tensors),
        save({}, {}),
        struct.pack("<Q", len(header)) + header + bytes(4),
        struct.pack("<Q", 2) + b"{}",
    ]


def run_checkpoint(data: bytes, folder: Path) -> None:
    """A file of torch.save, or what says that it is one."""
    path = folder / "model.pth"
    path.write_bytes(data)
    read_checkpoint(path)


def checkpoint_files() -> list[bytes]:
    state = {"fc.weight": torch.zeros(2, 3), "fc.bias": torch.ones(2)}
    found = []
    for content in (state, {"state_dict": state, "epoch": 3, "metadata": {"a": "b"}}, [1], {"model": {}}):
        for zipped in (True, False):
            stream = io.BytesIO()
            torch.save(content, stream, _use_new_zipfile_serialization=zipped)
            found.append(stream.getvalue())
    return found


def run_preprocessing(data: bytes, folder: Path) -> None:
    """Settings of any kind, given, in metadata or in a JSON file beside the weights."""
    choices = Choices(data)
    odd = ("nan", "inf", "-1", "1e999", "0", "", ",", "1,2", "0.5,0.5,0.5", "1e-9", "9" * 30, "１", "1_0", " 5 ")
    metadata = {f"anigender.{name}": value for name, value in METADATA.items()}
    for _ in range(choices.whole(0, 6)):
        name = choices.pick((*SETTINGS, choices.text(3)))
        metadata[f"anigender.{name}"] = choices.pick((*odd, *FRAMINGS, *RESAMPLES, "BGR", choices.text(6)))
    if choices.flag():
        metadata.pop(choices.pick(sorted(metadata)))
    path = folder / "net.pth"
    sidecar = folder / "net.json"
    if choices.flag():
        sidecar.write_bytes(data[choices.at :])
    else:
        values = {choices.pick((*SETTINGS, "anigender", "x")): choices.value(2) for _ in range(choices.whole(0, 4))}
        sidecar.write_text(json.dumps(values, default=str), encoding="utf-8")
    refusals = []
    for step in (
        lambda: check_metadata(metadata, path),
        lambda: _settled(preprocessing(metadata)),
        lambda: _settled(preprocessing({**metadata, **sidecar_settings(path)})),
    ):
        try:
            step()
        except ValueError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def _settled(found: Preprocessing) -> None:
    assert 1 <= found.size <= 1024 and 0.05 <= found.margin <= 20 and set(found.columns) == {0, 1}
    assert all(value > 0 for value in found.std) and found.temperature > 0


class Framing:
    """What :func:`classifier_crops` asks of a classifier."""

    def __init__(self, choices: Choices) -> None:
        self.size = choices.whole(1, 48)
        self.margin, self.below = choices.whole(1, 400) / 20, choices.whole(-100, 100) / 20
        self.framing, self.resample = choices.pick(FRAMINGS), choices.pick(RESAMPLES)


def run_framing(data: bytes, folder: Path) -> None:
    """Crops of boxes anywhere and of any size, by every way of framing that a file can declare."""
    choices = Choices(data)
    framing = Framing(choices)

    def box() -> list[float]:
        x, y, w, h = (max(-1e30, min(1e30, float(v))) if abs(v) < 1e300 else 1e30 for v in _four(choices))
        return [x, y, x + abs(w), y + abs(h)]

    faces = Faces.from_boxes([choices.some(box, 3)], NOISE.sizes)
    crops = classifier_crops(NOISE, faces, framing)
    assert crops.shape == (len(faces), 3, framing.size, framing.size)
    assert bool(((crops >= 0) & (crops <= 1)).all())


def _four(choices: Choices) -> list[float]:
    return [choices.number() for _ in range(4)]


def run_manifest(data: bytes, folder: Path) -> None:
    """A table of somebody's own pictures."""
    for name in ("a.png", "b.png"):
        if not (folder / name).is_file():
            Image.new("RGB", (9, 9), (len(name), 7, ord(name[0]))).save(folder / name)
    (folder / "manifest.csv").write_bytes(data)
    refusals = []
    for ask in (lambda: read_pictures(folder), lambda: read_column(folder, "gender")):
        try:
            ask()
        except (ValueError, FileNotFoundError) as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def manifests() -> list[bytes]:
    return [
        b"file,gender\na.png,female\nb.png,male\n",
        b"file_name,label,character,kind,split\na.png,1girl,ann,face,train\nb.png,men,bob,,test\n",
        b'\xef\xbb\xbffile,gender,split\r\n"a.png",f,val\r\n"b.png",m,\r\n',
        b'file;gender\na.png;female\n"b\n.png",male,too,many\n',
        "file,gender\n初.png,female\n../b.png,male\n/b.png,female\n".encode(),
    ]


TABLES = ("gender/manifest.csv", "detection/boxes.csv", "detection/animeface2009.csv")


def run_tables(data: bytes, folder: Path) -> None:
    """The tables of a data folder: pictures, known boxes, what a teacher found; and the heads made of them."""
    parts = data.split(b"\x1e")
    for path, content in zip(TABLES, parts, strict=False):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(content)
    refusals: list[Exception] = []
    pictures: list[Picture] = []
    for ask in (
        lambda: pictures.extend(read_pictures(folder)),
        lambda: read_column(folder, "kind"),
        lambda: read_illustrations(folder),
        lambda: read_teacher(folder),
        lambda: label_heads(pictures, folder),
    ):
        try:
            ask()
        except (ValueError, FileNotFoundError) as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def tables() -> list[bytes]:
    head = "file,character,gender,kind,split,width,height,alpha\n"
    rows = "".join(
        f"gender/g/{i}.png,c{i},{('female', 'male')[i % 2]},{('face', 'bust')[i % 2]},train,9,9,1\n" for i in range(4)
    )
    boxes = "file,region,x,y,width,height\ngender/g/0.png,face,1,2,3,4\ndetection/illustrations/1.png,head,1,2,3,4\n"
    teacher = "file,likelihood,x,y,width,height\ngender/g/2.png,0.99,1,2,3,4\n"
    return [f"{head}{rows}\x1e{boxes}\x1e{teacher}".encode(), f"{head}\x1e{boxes}\x1e{teacher}".encode()]


def run_given_boxes(data: bytes, folder: Path) -> None:
    """A JSON file of boxes for every picture."""
    path = folder / "boxes.json"
    path.write_bytes(data)
    read_given_boxes(path).detect(NOISE)


def run_record(data: bytes, folder: Path) -> None:
    """The JSON record of digests."""
    path = folder / "digests.json"
    path.write_bytes(data)
    DigestRecord(path).get("a/b")


CSV_WORDS = (
    b",",
    b"\n",
    b'"',
    b"\r",
    b"female",
    b"male",
    b"train",
    b"val",
    b"nan",
    b"1e999",
    b"-1",
    b"\0",
    b"\xff",
    b"a.png",
)
JSON_WORDS = (b"[", b"]", b"{", b"}", b",", b":", b'"x"', b'"kind"', b'"boxes"', b"NaN", b"Infinity", b"1e999", b"null")
XML_WORDS = (
    *(
        b"<!DOCTYPE a [<!ENTITY b 'c'>]>",
        b"&amp;",
        b"&b;",
        b"<_>",
        b"</_>",
        b"<rect>",
        b"HAAR",
        b"LBP",
        b"nan",
        b"1e999",
    ),
    *(
        b"<stages>",
        b"<features>",
        b"<internalNodes>",
        b"<leafValues>",
        b"-1",
        b"0 ",
        b"2147483648 ",
        b"<tilted>1</tilted>",
    ),
)

FILES = (
    Target("cascade", "XML files of cascades", run_cascade, (ValueError,), cascade_files, XML_WORDS, 6000),
    Target("weights", "safetensors files", run_weights, (ValueError,), weight_files, JSON_WORDS, 4096),
    Target("checkpoints", "files of torch.save", run_checkpoint, (ValueError,), checkpoint_files, (), 6000),
    Target("preprocessing", "metadata of classifiers", run_preprocessing, (ValueError,), random_seeds, JSON_WORDS, 512),
    Target("framing", "crops for classifiers", run_framing, (ValueError,), random_seeds, (), 256),
    Target(
        "manifests", "tables of own pictures", run_manifest, (ValueError, FileNotFoundError), manifests, CSV_WORDS, 2048
    ),
    Target("tables", "tables of the data folder", run_tables, (ValueError, FileNotFoundError), tables, CSV_WORDS, 2048),
    Target(
        "given-boxes",
        "JSON files of boxes",
        run_given_boxes,
        (ValueError,),
        lambda: [b"[[1,2,3,4]]", b'{"kind":"face","boxes":[[1,2,3,4],{"x":1,"y":2,"width":3,"height":4,"score":0.5}]}'],
        JSON_WORDS,
        1024,
    ),
    Target(
        "digests",
        "the record of digests",
        run_record,
        (ValueError,),
        lambda: [b"{}", b'{"a/b":{"sha256":"0","commit":"","since":"2026-01-01"}}'],
        JSON_WORDS,
        1024,
    ),
)
