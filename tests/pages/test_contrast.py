"""Text and statuses are readable in both themes, computed from the tokens in the stylesheet."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

CSS = Path(__file__).parents[2] / "static" / "css" / "keepwell.css"
_TOKEN = re.compile(
    r"--([a-z-]+):\s*light-dark\(\s*oklch\(([\d.]+) ([\d.]+) ([\d.]+)\),\s*oklch\(([\d.]+) ([\d.]+) ([\d.]+)\)\s*\);"
)

Oklch = tuple[float, float, float]


def _tokens() -> dict[str, dict[str, Oklch]]:
    themes: dict[str, dict[str, Oklch]] = {"light": {}, "dark": {}}
    for name, *parts in _TOKEN.findall(CSS.read_text(encoding="utf-8")):
        lightness, chroma, hue, dark_lightness, dark_chroma, dark_hue = map(float, parts)
        themes["light"][name] = (lightness, chroma, hue)
        themes["dark"][name] = (dark_lightness, dark_chroma, dark_hue)
    return themes


TOKENS = _tokens()
STATUSES = sorted(name for name in TOKENS["light"] if name.startswith("status-") and not name.endswith("-tint"))
GROUNDS = ("page", "surface", "sunken", "hover")
TINTS = sorted(name for name in TOKENS["light"] if name.endswith("-tint"))

TEXT_PAIRS = [
    *((text, ground) for text in ("text", "text-muted", "accent", "accent-strong", "danger") for ground in GROUNDS),
    *((text, tint) for text in ("text", "text-muted") for tint in TINTS),
    *((status, ground) for status in STATUSES for ground in (*GROUNDS, f"{status}-tint")),
    ("accent-strong", "accent-tint"),
    ("on-accent", "accent"),
    ("on-accent", "accent-strong"),
    ("on-danger", "danger"),
    ("on-danger", "danger-strong"),
]


def linear_srgb(colour: Oklch) -> tuple[float, float, float]:
    """OKLCH to linear sRGB by Björn Ottosson's matrices; outside 0..1 means outside the gamut."""
    lightness, chroma, hue = colour
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def contrast(one: Oklch, other: Oklch) -> float:
    """The contrast ratio of WCAG 2, 1 to 21."""

    def luminance(colour: Oklch) -> float:
        red, green, blue = (min(max(channel, 0.0), 1.0) for channel in linear_srgb(colour))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_measure_agrees_with_known_ratios() -> None:
    white, black, grey = (1.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.5999, 0.0, 0.0)
    assert contrast(white, black) == pytest.approx(21, abs=0.01)
    # oklch(0.5999 0 0) is #808080, whose ratio to white is 3.95.
    assert contrast(white, grey) == pytest.approx(3.95, abs=0.02)


def test_every_colour_token_is_read_by_this_test() -> None:
    declared = re.findall(r"^\s*--([a-z-]+):\s*light-dark\(", CSS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(declared) == sorted(TOKENS["light"])
    assert len(STATUSES) >= 8


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), TEXT_PAIRS, ids=lambda name: str(name))
def test_text_has_aa_contrast(text: str, ground: str, theme: str) -> None:
    ratio = contrast(TOKENS[theme][text], TOKENS[theme][ground])
    assert ratio >= 4.5, f"--{text} on --{ground} in the {theme} theme has a contrast of {ratio:.2f}"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("line", ["control-line", "accent", "status-failed"])
def test_edges_of_controls_have_the_contrast_of_graphics(line: str, theme: str) -> None:
    assert contrast(TOKENS[theme][line], TOKENS[theme]["surface"]) >= 3


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_are_within_srgb_so_that_every_screen_shows_what_was_measured(theme: str) -> None:
    outside = {
        name: colour
        for name, colour in TOKENS[theme].items()
        if not all(-0.006 <= channel <= 1.006 for channel in linear_srgb(colour))
    }
    assert outside == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_statuses_are_equally_light_so_that_none_shouts(theme: str) -> None:
    # Lost is darker on purpose: it is drawn as an outline and must not read as an ordinary failure.
    lightness = {TOKENS[theme][status][0] for status in STATUSES if status != "status-lost"}
    assert len(lightness) == 1
    assert TOKENS[theme]["status-lost"][0] < lightness.pop()
