"""From a name to a file: the order of search, and the command line with its environment variables."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from huggingface_hub import constants

from anigender import known_models
from anigender import locate as locating
from anigender.cli import main
from anigender.known_models import KINDS, MODELS, find_model
from anigender.locate import get, locate, locate_files
from anigender.pipeline import load
from anigender.weights import ASSETS, save_weights

NAMES = [name for model in MODELS.values() for name in (model.name, *model.aliases)]


@pytest.fixture
def known(model, monkeypatch):
    """The test's model as one of the known ones."""
    monkeypatch.setattr(known_models, "_MODELS", (*known_models._MODELS, model))
    return model


def test_the_table_is_sound() -> None:
    assert len({name.lower() for name in NAMES}) == len(NAMES)
    for model in MODELS.values():
        assert model.kind in KINDS and model.licence and model.summary and model.preprocessing
        assert model.files and model.megabytes > 0
        assert model.embedded or model.page.startswith("https://")
        if model.embedded:
            assert all((ASSETS / file.pattern).is_file() for file in model.files)
    kinds = {model.kind for model in MODELS.values()}
    assert kinds == set(KINDS)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_found_in_any_case(name: str) -> None:
    assert find_model(name) is find_model(name.upper()) is not None


def test_the_order_of_search(server, hub, known, tmp_path) -> None:
    fetched = locate("head-1", hub=hub)
    assert fetched.is_relative_to(hub.cache)
    folder = tmp_path / "models"
    (folder / "below").mkdir(parents=True)
    for name, contents in server.files.items():
        (folder / "below" / name).write_bytes(contents)
    assert locate("HEAD-1", [tmp_path / "absent", folder], hub=hub) == folder / "below" / "head.safetensors"
    assert locate("gender", [folder], hub=hub) == ASSETS / "gender.safetensors"
    assert locate("below/head.safetensors", [folder], hub=hub) == folder / "below" / "head.safetensors"
    assert locate(fetched, [folder], hub=hub) == fetched
    asked = len(server.asked)
    assert locate("head-1", hub=hub) == fetched and len(server.asked) == asked


def test_a_name_of_a_file_that_exists_is_that_file(hub, known, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("head-1").write_bytes(b"mine")
    assert locate("head-1", hub=hub) == Path("head-1")


@pytest.mark.parametrize("name", ["../secret", "/nowhere/a.safetensors", "nonsense", ""])
def test_what_is_nothing_is_refused(hub, tmp_path, name: str) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "models").mkdir()
    with pytest.raises(FileNotFoundError, match="neither a file nor a known model"):
        locate(name, [tmp_path / "models"], hub=hub)


def test_a_near_miss_is_guessed(hub) -> None:
    with pytest.raises(FileNotFoundError, match="did you mean aesthetic"):
        locate("aestetic", hub=hub)


def test_a_pipeline_takes_names(server, hub, monkeypatch) -> None:
    file = known_models.KnownFile("head.safetensors")
    theirs = known_models.KnownModel("theirs", "classifier", "", (file,), "MIT", "", 8, server.repository)
    monkeypatch.setattr(known_models, "_MODELS", (theirs,))
    monkeypatch.setattr(locating.Hub, "from_environment", classmethod(lambda cls: hub))
    server.files["head.safetensors"] = (ASSETS / "gender.safetensors").read_bytes()
    assert load(classifier="Theirs", device="cpu").classifier.size == 112
    assert locating.resolve("theirs", "detector") == "theirs", "of another kind"


def test_nothing_is_fetched_unasked(server, hub, known) -> None:
    with pytest.raises(FileNotFoundError, match="anigender models get head-1"):
        locate("head-1", download=False, hub=hub)
    assert server.asked == []


def test_weights_without_what_belongs_to_them(server, hub, known, tmp_path) -> None:
    (tmp_path / "head.safetensors").write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match="lacks head.config.json beside it"):
        locate("head-1", [tmp_path], hub=hub)


def test_a_general_name_counts_only_in_the_models_own_folder(server, hub, known, tmp_path, monkeypatch) -> None:
    for folder in ("other", "Head-1"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.safetensors").write_bytes(folder.encode())
    general = replace(known, files=(known_models.KnownFile("weights/*.safetensors"),))
    assert locate_files(general, [tmp_path], hub) == [tmp_path / "Head-1" / "model.safetensors"]


def test_a_file_in_a_folder_is_trusted_once(server, hub, known, tmp_path) -> None:
    for name, contents in server.files.items():
        (tmp_path / name).write_bytes(contents)
    locate("head-1", [tmp_path], hub=hub)
    (tmp_path / "head.safetensors").write_bytes(b"another")
    with pytest.raises(ValueError, match="not the file that was trusted"):
        locate("head-1", [tmp_path], hub=hub)


def test_each_published_form_of_a_model_is_trusted_by_itself(hub, tmp_path) -> None:
    model = MODELS["clip-vit-large-patch14"]
    record = locating.record_of(hub)
    forms = {"model.safetensors": b"the one", "pytorch_model.bin": b"the other"}
    folders = {}
    for name, contents in forms.items():
        folders[name] = tmp_path / name.partition(".")[0] / model.name
        folders[name].mkdir(parents=True)
        (folders[name] / name).write_bytes(contents)
        (folders[name] / "config.json").write_bytes(b"{}")
    earlier = f"{model.name}/model.safetensors|pytorch_model.bin"
    record.put(earlier, hashlib.sha256(forms["pytorch_model.bin"]).hexdigest(), "1" * 40)
    for name in ("pytorch_model.bin", "model.safetensors", "pytorch_model.bin"):
        assert locate_files(model, [folders[name]], hub) == [folders[name] / name, folders[name] / "config.json"]
    assert record.get(f"{model.name}/model.safetensors") is not None
    assert record.get(f"{model.name}/pytorch_model.bin") is None, "known under its former name"
    assert locating._commit(model, hub) == "1" * 40
    (folders["model.safetensors"] / "model.safetensors").write_bytes(b"another")
    with pytest.raises(ValueError, match="not the file that was trusted"):
        locate_files(model, [folders["model.safetensors"]], hub)


def test_embedded_models_need_neither_cache_nor_network(monkeypatch) -> None:
    monkeypatch.setattr(locating, "Hub", None)
    assert get(MODELS["head"]) == [ASSETS / "head.safetensors"] == locate_files(MODELS["head"])


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.fixture
def cli(server, tmp_path, monkeypatch):
    """``anigender models …`` whose hub is the local server, with a repository of the known table."""
    server.repository = "city96/CityAesthetics"
    server.files.clear()
    save_weights(tmp_path / "head.safetensors", {"up.0.weight": torch.ones(2, 3)}, {"made by": "a test"})
    server.files["CityAesthetics-Anime-v1.8.safetensors"] = (tmp_path / "head.safetensors").read_bytes()
    server.files["CityAesthetics-Anime-v1.8.config.json"] = b"{}"
    server.small = ("CityAesthetics-Anime-v1.8.config.json",)
    home = tmp_path / "home"
    usual = {"ENDPOINT": server.address, "HF_HOME": str(home), "HF_HUB_CACHE": str(home / "hub")}

    def run(*arguments: object, status: int = 0, **environment: object) -> Result:
        for name, value in {**usual, "HF_HUB_OFFLINE": False, **environment}.items():
            monkeypatch.setattr(constants, name, value)
        done = CliRunner().invoke(main, ["models", *map(str, arguments)])
        assert done.exit_code == status, done.output
        return done

    return run


def test_get_where_verify_info(cli, server, tmp_path, caplog) -> None:
    assert "not on this machine" in cli("where", "aesthetic", status=1).stderr
    assert "not on this machine" in cli("verify", "aesthetic", status=1).stderr
    done = cli("get", "aesthetic")
    weights, config = map(Path, done.stdout.splitlines())
    assert weights.is_relative_to(tmp_path / "home" / "hub" / "models--city96--CityAesthetics")
    assert weights.read_bytes() == server.files[weights.name] and config.read_bytes() == b"{}"
    assert caplog.text.count("trusted from now on") == 2
    asked = len(server.asked)
    assert cli("where", "aesthetic", HF_HUB_OFFLINE=True).stdout.strip() == str(weights)
    assert cli("verify", HF_HUB_OFFLINE=True).stdout.count("ok ") == 5, "three embedded files and two fetched ones"
    told = cli("info", "aesthetic").stdout
    assert "CityAesthetics-Anime-v1.8, quality, Apache-2.0" in told and "numbers: 6 F32" in told
    assert "made by: a test" in told
    assert str(weights) in cli("list", "--kind", "quality").stdout
    assert len(server.asked) == asked
    weights.write_bytes(b"damaged")
    assert "not the file that was trusted" in cli("verify", status=1).stderr
    assert "refused: " in cli("list").stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (("get", "aesthetic"), {"HF_HUB_OFFLINE": True}, "https://huggingface.co/city96/CityAesthetics"),
        (("get", "compression"), {}, "answers 404"),
        (("where", "nothing"), {}, "neither a file nor a known model"),
        (("info", "nothing"), {}, "neither a file nor a known model"),
        (("get", "gender", "aesthetic"), {"ENDPOINT": "nowhere"}, "HF_ENDPOINT is 'nowhere'"),
    ],
)
def test_failures_are_told(cli, arguments, environment, message: str) -> None:
    assert message in cli(*arguments, status=1, **environment).stderr


def test_an_unknown_name_is_wrong_usage(cli) -> None:
    assert "did you mean aesthetic?" in cli("get", "aestetic", status=2).stderr


def test_a_process_honours_its_environment(server, tmp_path) -> None:
    server.repository = "city96/CityAesthetics"
    names = [file.pattern for file in MODELS["CityAesthetics-Anime-v1.8"].files]
    server.files = dict.fromkeys(names, b"{}")
    program = """
from anigender.downloads import Hub
from anigender.locate import locate
print(locate("aesthetic"))
from anigender.cli import main
print(Hub.from_environment().timeout)
"""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "HF_ENDPOINT": f"{server.address}/",
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DOWNLOAD_TIMEOUT": "7",
    }
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    path, timeout = done.stdout.splitlines()
    assert Path(path).is_relative_to(tmp_path / "home" / "hub") and Path(path).read_bytes() == b"{}"
    assert timeout == "7.0"
    assert "trusted from now on" in done.stderr, "said out loud, without any logging being set up"
