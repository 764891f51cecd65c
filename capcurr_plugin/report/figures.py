"""Figures of one look: as SVG and PNG files, and as SVG that stands in a page and takes the page's colours.

Whatever draws gets a matplotlib Figure inside the theme and leaves the files to `picture`. Nothing here touches pyplot,
whose state a host may use, and the same figure always gives the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capcurr_plugin.atomic import replacing_folder
from capcurr_plugin.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NO_CAPABILITY = "no capability"
ENDINGS = (".svg", ".png")
PNG_DPI = 160
MAX_ALT = 500  # characters of what a figure is said to show
INK, PAPER = "#1c1d21", "#ffffff"  # of the files; in a page the ink is the page's own colour


@dataclass(frozen=True)
class Look:
    """Told apart by colour, also by a colour-blind eye, and by hatches in a print without colours."""

    colour: str
    hatch: str


# Of Okabe and Ito's palette, those that stand out from a white page and from a dark one.
LOOKS = {
    "perception": Look("#0072b2", ""),
    "textual_reasoning": Look("#d55e00", "////"),
    "visual_reasoning": Look("#009e73", "----"),
    NO_CAPABILITY: Look("#767676", "xxxx"),
}

# Of wrong answers. What is no error of the model's own comes after the four that are.
KIND_LOOKS = {
    "perception": Look("#0072b2", ""),
    "reasoning": Look("#d55e00", "////"),
    "knowledge": Look("#009e73", "----"),
    "question_comprehension": Look("#cc79a7", "...."),
    "flawed_question_or_label": Look("#a07000", "\\\\\\\\"),
    "format_or_extraction": Look("#8a63d2", "++++"),
    "answer_is_right": Look("#2a8a9a", "||||"),
    "undecided": Look("#767676", "xxxx"),
    "not_judged": Look("#767676", "oooo"),  # of a comparison: nobody asked the judge
}


@dataclass(frozen=True)
class Series:
    """One of several models or runs: also told apart by its mark and its line."""

    colour: str
    mark: str
    line: Any  # as matplotlib writes one


SERIES = (
    Series("#0072b2", "o", "-"),
    Series("#d55e00", "s", "--"),
    Series("#009e73", "^", "-."),
    Series("#8a63d2", "D", ":"),
    Series("#a07000", "v", "-"),
    Series("#c2396b", "P", "--"),
    Series("#2a8a9a", "X", "-."),
    Series("#767676", "*", ":"),
)


def series(number: int) -> Series:
    """Of the models or runs of a figure, by their place; after eight they come again."""
    return SERIES[number % len(SERIES)]


THEME: dict[Any, Any] = {
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.facecolor": "none",
    "font.family": ["DejaVu Sans", "sans-serif"],  # the first comes with matplotlib
    "font.size": 9,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",  # text stays text, to be searched and read aloud
    "svg.hashsalt": "capcurr",
    "text.color": INK,
    "text.parse_math": False,  # a $ in a name is a dollar
    "xtick.color": INK,
    "ytick.color": INK,
}


@dataclass(frozen=True)
class Picture:
    """A figure as it is written and shown. `name` is that of its files, `alt` says what it shows."""

    name: str
    alt: str
    svg: str
    inline: str
    png: bytes


def short(name: str, most: int = 40) -> str:
    """A name from outside, as a figure has room for."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def check_drawing() -> None:
    """Before a long job: that there is something to draw with."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InputError("figures need matplotlib: pip install 'capcurr-plugin[report]'") from None


def picture(name: str, alt: str, size: tuple[float, float], draw: Callable[[Figure], None]) -> Picture:
    """What `draw` draws, in inches of `size`."""
    import matplotlib
    from matplotlib.figure import Figure

    alt = short(alt, MAX_ALT)
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # of the PNG's font; in the SVG the reader's has it
        matplotlib.rcdefaults()  # whatever the user's own matplotlibrc says
        matplotlib.rcParams.update(THEME)
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        svg, png = io.BytesIO(), io.BytesIO()
        figure.savefig(svg, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        figure.set_layout_engine("none")  # everything stays where the SVG has it
        figure.savefig(png, format="png", dpi=PNG_DPI, facecolor=PAPER, metadata={"Software": None})
    return Picture(name, alt, _file(svg.getvalue(), name, alt), _inline(svg.getvalue(), name, alt), png.getvalue())


def write_pictures(folder: Path, pictures: Sequence[Picture]) -> list[Path]:
    """The pictures' files, in place of a folder of pictures that is there; their paths."""
    check_folder(folder)
    with replacing_folder(folder) as part:
        for one in pictures:
            (part / f"{one.name}.svg").write_text(one.svg, encoding="utf-8")
            (part / f"{one.name}.png").write_bytes(one.png)
    return [folder / f"{one.name}{ending}" for one in pictures for ending in ENDINGS]


def check_folder(folder: Path) -> None:
    """Refuse to replace anything but a folder of pictures."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InputError(f"{folder}: is no folder, but the figures would be written there; move it away")
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix not in ENDINGS or not path.is_file():
            raise InputError(f"{folder}: holds {path.name}, which is no figure, and would be replaced; move it away")


# SVG


def _file(svg: bytes, name: str, alt: str) -> str:
    """For itself: dark on white, wherever it is opened."""
    root = _plain(svg, name)
    root.insert(0, ET.Element("rect", {"width": "100%", "height": "100%", "fill": PAPER}))
    root.attrib = {"xmlns": "http://www.w3.org/2000/svg", **root.attrib, "role": "img", "aria-label": alt}
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _inline(svg: bytes, name: str, alt: str) -> str:
    """For a page: as wide as its place, and in the page's ink."""
    root = _plain(svg, name)
    for element in root.iter():
        for key in element.attrib.keys() & {"fill", "stroke"}:
            element.attrib[key] = element.attrib[key].replace(INK, "currentColor")
    root.attrib = {"viewBox": root.attrib["viewBox"], **_JOINTS, "role": "img", "aria-label": alt}
    return ET.tostring(root, encoding="unicode")


# matplotlib sets these for `*` in a style sheet, which would reach all of a page.
_JOINTS = {"stroke-linejoin": "round", "stroke-linecap": "butt"}


def _plain(svg: bytes, name: str) -> ET.Element:
    """matplotlib's SVG without namespaces, document type, metadata and style sheet: none refers anywhere."""
    root = ET.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        _style_to_attributes(element)
    root.attrib |= _JOINTS
    _number_ids(root, name)
    return root


def _style_to_attributes(element: ET.Element) -> None:
    """A page whose policy allows no style but its own ignores `style`, not the attributes that say the same."""
    for declaration in filter(None, map(str.strip, element.attrib.pop("style", "").split(";"))):
        name, _, value = declaration.partition(": ")
        if name == "font":  # of older versions of matplotlib
            font = _FONT.fullmatch(value)
            element.attrib |= {f"font-{part}": text for part, text in font.groupdict().items() if text} if font else {}
        else:
            element.set(name, value)


_FONT = re.compile(r"(?:(?P<style>italic|oblique) )?(?:(?P<weight>bold|\d+) )?(?P<size>[\d.]+px) (?P<family>.+)")


def _number_ids(root: ET.Element, name: str) -> None:
    """Ids that no other figure of a page has, and only those that something refers to. matplotlib's are hashes of
    coordinates to the last digit, in which machines differ."""
    used = {value for element in root.iter() for text in element.attrib.values() for value in _REFERENCE.findall(text)}
    numbers: dict[str, str] = {}
    for element in root.iter():
        old = element.attrib.pop("id", "")
        if old in used:
            element.set("id", numbers.setdefault(old, f"{name}-{len(numbers) + 1}"))
    for element in root.iter():
        for key, text in element.attrib.items():
            element.attrib[key] = _REFERENCE.sub(lambda found: f"#{numbers.get(found[1], found[1])}", text)


_REFERENCE = re.compile(r"(?:(?<=^)|(?<=url\())#([\w.-]+)")
