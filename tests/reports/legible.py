"""What the eye would see of a figure's words, by matplotlib's own measures."""

from collections.abc import Iterator

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox

LEAST_POINTS, LEAST_PANEL_INCHES = 6.0, (0.5, 0.4)


def _seen(figure: Figure) -> Iterator[Text]:
    """Every text that is seen; of ticks only those within the view."""
    hidden = set()
    for axes in figure.findobj(Axes):
        assert isinstance(axes, Axes)
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            outside = [t for t in ticks if not (axes.axison and low <= t.get_loc() <= high)]
            hidden |= {id(label) for t in outside for label in (t.label1, t.label2)}
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_text() and text.get_visible() and id(text) not in hidden:
            yield text


def boxes(figure: Figure) -> list[tuple[str, Bbox]]:
    """The words that are seen and where, in pixels."""
    return [(text.get_text(), text.get_window_extent()) for text in _seen(figure)]


def assert_legible(figure: Figure, at_least: int, picture_points: float = LEAST_POINTS) -> None:
    """No text overlaps another text or the legend of others, none leaves the page, none is too small to read.

    `picture_points` is the least size of type outside the caption. No panel is squeezed to nothing.
    """
    seen = boxes(figure)
    assert len(seen) > at_least
    page = figure.bbox
    for i, (words, box) in enumerate(seen):
        assert box.x0 >= 0 and box.x1 <= page.x1 and box.y0 >= 0 and box.y1 <= page.y1, f"{words!r} leaves the page"
        for others, other in seen[i + 1 :]:
            assert not box.padded(-1).overlaps(other.padded(-1)), f"{words!r} overlaps {others!r}"
    caption = {id(text) for part in figure.subfigs[1:] for text in part.findobj(Text)}
    for text in _seen(figure):
        least = LEAST_POINTS if id(text) in caption else picture_points
        assert text.get_fontsize() >= least, f"{text.get_text()!r} has {text.get_fontsize()} points"
    for legend in figure.findobj(Legend):
        assert isinstance(legend, Legend)
        frame, own = legend.get_window_extent(), {id(text) for text in legend.findobj(Text)}
        assert frame.x0 >= 0 and frame.x1 <= page.x1, "a legend leaves the page"
        for text in _seen(figure):
            assert id(text) in own or not frame.padded(-2).overlaps(text.get_window_extent()), text.get_text()
    for axes in figure.findobj(Axes):
        assert isinstance(axes, Axes)
        inches = axes.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
        if axes.axison and axes.get_label() != "<colorbar>":
            assert inches.width >= LEAST_PANEL_INCHES[0] and inches.height >= LEAST_PANEL_INCHES[1], inches
