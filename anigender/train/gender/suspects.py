"""The pictures whose labels a training came to distrust, as a list for a person to clean the data by."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from ...datasets.picture import GENDERS
from ...evaluate.html_report import embedded_image, html_text, page
from ...files import atomic_write_text
from ..crops.crops import Crops
from .outliers import LossHistory, trust

BELOW = 0.5  # trust
PICTURED = 400  # of the most suspect ones; the tables hold all
THUMBNAIL = 144  # pixels


@dataclass(frozen=True)
class Suspect:
    """A picture whose label is probably wrong.

    Attributes:
        file: relative to the data folder.
        gender: its label.
        character: where known, else the file.
        trust: how likely the label is right.
        loss: the running mean of its loss.
        said: the other gender's mean probability while the net learned.
        views: how often it was shown.
        row: of the crops learned from.
    """

    file: str
    gender: str
    character: str
    trust: float
    loss: float
    said: float
    views: int
    row: int


COLUMNS = [name for name in Suspect.__annotations__ if name != "row"]


def suspects(history: LossHistory, crops: Crops) -> list[Suspect]:
    """Pictures trusted less than :data:`BELOW`, the most suspect first."""
    trusted = trust(history, crops.labels)
    rows = (trusted < BELOW).nonzero()[:, 0].tolist()
    found = []
    for row in rows:
        picture, male = crops.pictures[row], float(history.male[row])
        found.append(
            Suspect(
                picture.file,
                picture.gender,
                picture.character,
                round(float(trusted[row]), 4),
                round(float(history.loss[row]), 4),
                round(male if picture.gender == GENDERS[0] else 1 - male, 4),
                int(history.seen[row]),
                row,
            )
        )
    return sorted(found, key=lambda suspect: (suspect.trust, -suspect.loss, suspect.file))


def lists_of(report: Path) -> tuple[Path, Path]:
    """Where the list of a report is as CSV and as JSON: no names that weights, tables or settings have."""
    return report.with_suffix(".suspects.csv"), report.with_suffix(".suspects.json")


def check_report(report: Path) -> None:
    """Refuse a report that cannot be written, or would replace something else, before hours of training.

    Raises:
        ValueError: its suffix is not ``.html``, or one of its lists (:func:`lists_of`) is there and is none.
        FileNotFoundError: there is no such folder.
    """
    if report.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"the report of suspects {report} is an HTML file: give it a name ending in .html")
    if not report.parent.is_dir():
        raise FileNotFoundError(f"the report of suspects: there is no folder {report.parent}")
    for path in lists_of(report):
        if path.exists() and not _is_list(path):
            raise ValueError(f"the report of suspects would replace {path}, which is no such list: choose another name")


def _is_list(path: Path) -> bool:
    with path.open("rb") as stream:
        start = stream.read(200)
    return start.startswith((b'{\n "data": ', ",".join(COLUMNS).encode()))


def report_suspects(path: Path, found: Sequence[Suspect], crops: Crops, data: Path) -> None:
    """Write an HTML file with pictures that needs nothing beside it, and the list as CSV and JSON beside it.

    Args:
        path: the HTML file; for the others see :func:`lists_of`.
        found: from :func:`suspects`.
        crops: what was learned from.
        data: the data folder, for people to find the files in.
    """
    rows = [{name: value for name, value in asdict(one).items() if name in COLUMNS} for one in found]
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    as_csv, as_json = lists_of(path)
    text = table.getvalue().encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")  # names may be none
    atomic_write_text(as_csv, text)
    atomic_write_text(as_json, json.dumps({"data": str(data), "suspects": rows}, indent=1) + "\n")
    tiles = [_tile(one, crops) for one in found[:PICTURED]]
    shown = f", the first {PICTURED} with pictures" if len(found) > PICTURED else ""
    by_gender = ", ".join(f"{sum(one.gender == gender for one in found)} labelled {gender}" for gender in GENDERS)
    body = [
        f"<h1>{len(found)} suspects among {len(crops)} pictures</h1>",
        f"<p>In {html_text(str(data))}: {by_gender}{shown}. The net learned from these pictures and did not come to "
        "agree with their labels; the most suspect come first. Look at each: some are wrong labels, some show nobody "
        "or a bad crop, and some are right and merely hard. Correct or remove the wrong ones in your folders or table, "
        "leave the hard ones in, and train again. "
        f"The whole list is in {html_text(as_csv.name)}.</p>",
        *tiles,
    ]
    atomic_write_text(path, page("Suspects", "\n".join(body)))


def _tile(one: Suspect, crops: Crops) -> str:
    """A picture with what is said of it."""
    rgba = crops.pixels[[one.row]][0].permute(1, 2, 0).contiguous().numpy()
    crop = Image.fromarray(rgba, "RGBA")
    white = Image.new("RGBA", crop.size, "white")
    white.alpha_composite(crop)
    picture = white.convert("RGB").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    other = GENDERS[1 - GENDERS.index(one.gender)]
    return (
        f"<figure style='width:{THUMBNAIL}px'>{embedded_image(picture, one.file)}"
        f"<figcaption>{html_text(one.gender)}?</figcaption>"
        f"{html_text(other)} {one.said:.0%}, loss {one.loss:.2f}<br>"
        f"<small style='overflow-wrap:anywhere'>{html_text(one.file)}</small></figure>"
    )
