"""A figure's SVG as a part of the page: in the page's colours, and without what no one needs."""

import re
import xml.etree.ElementTree as ElementTree

from jiant_sparse.report.figures import style

SVG = "http://www.w3.org/2000/svg"
LINK = "{http://www.w3.org/1999/xlink}href"
VARIABLES = {style.INK: "--ink", style.QUIET: "--quiet", style.HAIR: "--hair"}
VARIABLES |= {style.PAPER: "--paper"}
VARIABLES |= {colour: f"--figure-{number}" for number, colour in enumerate(style.PALETTE)}
DROPPED = ("metadata", "style", "title", "clipPath")
# What matplotlib says and SVG takes for granted, or nobody sees.
DEFAULTS = {
    "fill-opacity": "1",
    "stroke-opacity": "1",
    "stroke-dashoffset": "0",
    "stroke-miterlimit": "4",
    "stroke-linejoin": "miter",
    "stroke-linecap": "square",
}


def dark_variables() -> str:
    """CSS declarations of the palette on a dark page; a light one needs none."""
    pairs = enumerate(style.DARK_PALETTE)
    return " ".join(f"--figure-{number}: {colour};" for number, colour in pairs)


def inline(svg: str, title: str = "") -> str:
    """`svg`, as matplotlib writes it, for use inside HTML. `title`: its name for a screen reader.

    No prolog, metadata or style sheet; ids only where something refers to them; coordinates to a
    tenth of a point; ink, hairlines and palette as CSS variables with the colour to fall back on.
    """
    root = ElementTree.fromstring(svg)
    _drop(root)
    used = set(re.findall(r"#([\w-]+)", " ".join(_references(root))))
    for mark in root.iterfind(f".//{{{SVG}}}defs/{{{SVG}}}path"):
        # Where it is used says how it looks.
        mark.attrib.pop("style", None)
    for element in root.iter():
        if element.get("id") not in used:
            element.attrib.pop("id", None)
        if (target := element.attrib.pop(LINK, None)) is not None:
            element.set("href", target)
        if "style" in element.attrib:
            element.set("style", _style(element.attrib["style"]))
        for field in ("transform", "x", "y", "width", "height"):
            if field in element.attrib:
                element.set(field, _rounded(element.attrib[field]))
        if "d" in element.attrib:
            element.set("d", _path(element.attrib["d"]))
        # Nothing is drawn outside its axes.
        element.attrib.pop("clip-path", None)
        if re.match(r"rotate\(-?0 ", element.get("transform", "")):
            del element.attrib["transform"]
        _tighten(element)
    _unwrap(root)
    _gather(root)
    _head(root, title)
    ElementTree.register_namespace("", SVG)
    return ElementTree.tostring(root, encoding="unicode").replace(" />", "/>")


def _references(root: ElementTree.Element) -> list[str]:
    return [
        value
        for element in root.iter()
        for field, value in element.attrib.items()
        if field == LINK or (field == "style" and "url(" in value)
    ]


def _drop(element: ElementTree.Element) -> None:
    for child in list(element):
        name = child.tag.rpartition("}")[2]
        _drop(child)
        if name in DROPPED or (name == "defs" and not len(child)):
            element.remove(child)


def _unwrap(element: ElementTree.Element) -> None:
    """Groups that say nothing give way to what they hold."""
    children: list[ElementTree.Element] = []
    for child in element:
        _unwrap(child)
        bare = child.tag == f"{{{SVG}}}g" and not child.attrib
        children += list(child) if bare else [child]
    element[:] = children


def _gather(element: ElementTree.Element) -> None:
    """Marks in a row that look alike share a group with their style."""
    children: list[ElementTree.Element] = []
    for child in element:
        _gather(child)
        look = child.get("style") if child.tag == f"{{{SVG}}}use" else None
        last = children[-1] if children else None
        if look is None:
            children.append(child)
            continue
        if last is None or last.get("style") != look or last.tag != f"{{{SVG}}}g":
            last = ElementTree.Element(f"{{{SVG}}}g", {"style": look})
            children.append(last)
        del child.attrib["style"]
        last.append(child)
    element[:] = children


def _tighten(element: ElementTree.Element) -> None:
    """No white space for the eye; text keeps its own."""
    element.tail = None
    if element.text is not None and not element.text.strip():
        element.text = None


def _head(root: ElementTree.Element, title: str) -> None:
    for field in ("width", "height", "version"):
        root.attrib.pop(field, None)
    root.set("class", "figure")
    root.set("role", "img")
    root.set("font-family", "'DejaVu Sans', Verdana, sans-serif")
    if title:
        # Before <desc>, which matters to those who read both aloud.
        element = ElementTree.Element(f"{{{SVG}}}title")
        element.text = title
        root.insert(0, element)


def _style(text: str) -> str:
    kept = []
    for part in text.split(";"):
        field, _, value = (piece.strip() for piece in part.partition(":"))
        if not field or DEFAULTS.get(field) == value:
            continue
        if field == "font":
            kept += _font(value)
        elif field not in ("font-family", "font-stretch"):
            kept.append(f"{field}:{_coloured(value)}")
    return ";".join(kept)


def _font(value: str) -> list[str]:
    """Size and weight; the family is that of the whole figure."""
    before = value.partition("'")[0].split()
    size = [f"font-size:{word}" for word in before if word.endswith("px")]
    return size + ["font-weight:bold" for word in before if word in ("bold", "700")]


def _coloured(value: str) -> str:
    variable = VARIABLES.get(value)
    if variable is None:
        return value
    # The page has the first four in any case.
    return f"var({variable},{value})" if variable.startswith("--figure") else f"var({variable})"


def _rounded(text: str) -> str:
    return re.sub(r"-?\d+\.\d+(e-?\d+)?", lambda match: _tenths(round(10 * float(match[0]))), text)


def _tenths(count: int) -> str:
    """`count` tenths as a number: 5 is .5, 30 is 3."""
    whole, rest = divmod(abs(count), 10)
    sign = "-" if count < 0 else ""
    return f"{sign}{whole}" if not rest else f"{sign}{whole or ''}.{rest}"


def _path(text: str) -> str:
    """A path's data in tenths of a point; corners relative to the one before, which is shorter."""
    out, last = [], (0, 0)
    for command, body in re.findall(r"([MLCQz])([^MLCQz]*)", text):
        numbers = [round(10 * float(number)) for number in body.split()]
        if not numbers:
            out.append(command)
            continue
        # The start of a path and of each later part stays absolute, so that no error adds up.
        origin = (0, 0) if command == "M" else last
        pairs = zip(numbers[::2], numbers[1::2], strict=True)
        steps = [_tenths(part) for x, y in pairs for part in (x - origin[0], y - origin[1])]
        out.append((command if command == "M" else command.lower()) + " ".join(steps))
        last = (numbers[-2], numbers[-1])
    return "".join(out).replace(" -", "-")
