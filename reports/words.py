"""Escapes that no kept library offers in one call."""

from collections.abc import Hashable, Sequence

import pandas as pd
from pandas.io.formats.style import Styler


def markdown_escape(words: str) -> str:
    """Words as they are, in Markdown."""
    out = words.replace("\\", "\\\\")
    for sign in "|*_<>`[]&~":
        out = out.replace(sign, f"\\{sign}")
    return out.replace("\n", " ")


def latex_style(frame: pd.DataFrame, subset: list[Hashable] | None = None) -> Styler:
    """The frame without its index, words (only those of the columns `subset`, if given) and header escaped for LaTeX.

    pandas leaves < and > as they are, which LaTeX's usual encoding of fonts prints as other signs. A [ or *
    that begins a row would be read as an option of the row above.
    """

    def signs(words: object) -> str:
        made = str(words).replace("<", "$<$").replace(">", "$>$")
        return f"{{}}{made}" if made.startswith(("[", "*")) else made

    style = frame.style.hide(axis=0).format(signs, escape="latex", subset=subset)
    return style.format_index(signs, escape="latex", axis=1)


def latex_words(lines: Sequence[str]) -> list[str]:
    """The lines escaped for LaTeX: each is the only cell of a row."""
    style = latex_style(pd.DataFrame({"": list(lines)})).hide(axis=1)
    made = str(style.to_latex(column_format="l")).splitlines()
    return [line.removesuffix(r"\\").strip() for line in made[1:-1]]


def latex_fitted(grid: str) -> str:
    """A tabular, shrunk where it is wider than the text or higher than a page with its caption (needs graphicx)."""
    wide = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"
    high = r"\resizebox*{!}{\ifdim\totalheight>0.9\textheight 0.9\textheight\else\totalheight\fi}"
    return f"{high}{{%\n{wide}{{%\n{grid.strip()}%\n}}}}\n"


def latex_notes(lines: Sequence[str]) -> str:
    """Paragraphs in small print; they stand behind a float, because a float cannot be longer than a page."""
    if not lines:
        return ""
    body = "\\par\n".join(latex_words(lines))
    return f"{{\\scriptsize\\setlength{{\\parindent}}{{0pt}}\n{body}\\par}}\n"


def latex_figure(stem: str, lines: Sequence[str]) -> str:
    """A float with the picture STEM.pdf in its own size; the first line is its title (needs graphicx)."""
    title, *notes = (f"{words}." for words in latex_words([line[:1].upper() + line[1:] for line in lines]))
    rows = (
        r"% needs \usepackage{graphicx}",
        r"\begin{figure}",
        r"\centering",
        rf"\includegraphics{{{stem}.pdf}}",
        rf"\caption[{{{title}}}]{{{' '.join((title, *notes))}}}",
        rf"\label{{fig:{stem}}}",
        r"\end{figure}",
    )
    return "\n".join(rows) + "\n"
