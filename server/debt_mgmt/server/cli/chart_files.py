"""Charts in files: SVG written by hand, PNG through Pillow where it is installed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from debt_mgmt.server.cli.chart import HEIGHT, WIDTH, Chart, Place, draw

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont
    from PIL.ImageFont import ImageFont as BitmapFont

FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
PICTURE_SCALE = 2
"""Dots of a PNG for one of the picture's own units."""
SMOOTH = 2
"""A PNG is drawn so much larger and made smaller again, which smooths its lines."""


class UnknownPicture(ValueError):
    """The file's name says no kind of picture that can be written."""


class PillowMissing(RuntimeError):
    """PNG needs Pillow."""


def write_chart(chart: Chart, path: Path) -> None:
    """Draw the chart into a file, by the ending of its name. Raises UnknownPicture, PillowMissing or OSError."""
    if picture_kind(path) == ".svg":
        path.write_text(svg_of(chart), "utf-8")
    else:
        write_png(chart, path)


def picture_kind(path: Path) -> str:
    """The ending of the file's name. Raises UnknownPicture for one that can't be drawn."""
    kind = path.suffix.lower()
    if kind not in (".svg", ".png"):
        raise UnknownPicture(f"{path.name} is neither a .svg nor a .png")
    return kind


def svg_of(chart: Chart) -> str:
    canvas = SvgCanvas()
    draw(chart, canvas)
    return canvas.document(f"{chart.title}: {chart.caption}")


class SvgCanvas:
    """Writes what is drawn as elements of SVG."""

    def __init__(self) -> None:
        self.elements: list[str] = []

    def line(self, places: Sequence[Place], color: str, width: float) -> None:
        self.elements.append(
            f'<polyline points="{points(places)}" fill="none" stroke="{color}" stroke-width="{width:g}" '
            'stroke-linejoin="round"/>'
        )

    def area(self, places: Sequence[Place], color: str) -> None:
        self.elements.append(f'<polygon points="{points(places)}" fill="{color}"/>')

    def dot(self, place: Place, radius: float, color: str) -> None:
        self.elements.append(f'<circle cx="{place[0]:.2f}" cy="{place[1]:.2f}" r="{radius:g}" fill="{color}"/>')

    def text(self, place: Place, words: str, size: float, color: str, anchor: str, *, bold: bool = False) -> None:
        weight = ' font-weight="600"' if bold else ""
        self.elements.append(
            f'<text x="{place[0]:.2f}" y="{place[1]:.2f}" font-size="{size:g}" fill="{color}" '
            f'text-anchor="{anchor}"{weight}>{escape(words)}</text>'
        )

    def document(self, description: str) -> str:
        inner = "\n".join(self.elements)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
            f'height="{HEIGHT}" font-family="{FONTS}" role="img">\n'
            f"<title>{escape(description)}</title>\n"
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>\n{inner}\n</svg>\n'
        )


def points(places: Sequence[Place]) -> str:
    return " ".join(f"{x:.2f},{y:.2f}" for x, y in places)


def write_png(chart: Chart, path: Path) -> None:
    try:
        canvas = PngCanvas()
    except ImportError as error:
        raise PillowMissing("a .png needs Pillow: pip install 'debt-mgmt[plot]'; a .svg needs nothing") from error
    draw(chart, canvas)
    canvas.save(path)


class PngCanvas:
    """Draws with Pillow."""

    def __init__(self) -> None:
        from PIL import Image, ImageDraw, ImageFont

        self.scale = PICTURE_SCALE * SMOOTH
        self.fonts: dict[float, FreeTypeFont | BitmapFont] = {}
        self.load = ImageFont.load_default
        self.image = Image.new("RGB", (WIDTH * self.scale, HEIGHT * self.scale), "#ffffff")
        self.drawing = ImageDraw.Draw(self.image)

    def at(self, place: Place) -> Place:
        return place[0] * self.scale, place[1] * self.scale

    def line(self, places: Sequence[Place], color: str, width: float) -> None:
        self.drawing.line([self.at(place) for place in places], color, round(width * self.scale), joint="curve")

    def area(self, places: Sequence[Place], color: str) -> None:
        self.drawing.polygon([self.at(place) for place in places], color)

    def dot(self, place: Place, radius: float, color: str) -> None:
        x, y = self.at(place)
        reach = radius * self.scale
        self.drawing.ellipse((x - reach, y - reach, x + reach, y + reach), color)

    def text(self, place: Place, words: str, size: float, color: str, anchor: str, *, bold: bool = False) -> None:
        if size not in self.fonts:
            self.fonts[size] = self.load(size * self.scale)
        side = {"start": "ls", "middle": "ms", "end": "rs"}[anchor]
        stroke = self.scale // 4 if bold else 0
        self.drawing.text(self.at(place), words, color, self.fonts[size], side, stroke_width=stroke, stroke_fill=color)

    def save(self, path: Path) -> None:
        from PIL import Image

        small = self.image.resize((WIDTH * PICTURE_SCALE, HEIGHT * PICTURE_SCALE), Image.Resampling.LANCZOS)
        small.save(path, "PNG", optimize=True)
