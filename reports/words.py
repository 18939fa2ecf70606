"""Escapes that no kept library offers in one call."""

from collections.abc import Sequence

import pandas as pd


def markdown_escape(words: str) -> str:
    """Words as they are, in Markdown."""
    out = words.replace("\\", "\\\\")
    for sign in "|*_<>`[]":
        out = out.replace(sign, f"\\{sign}")
    return out.replace("\n", " ")


def latex_words(lines: Sequence[str]) -> list[str]:
    """The lines escaped for LaTeX by pandas: each is the only cell of a row."""
    frame = pd.DataFrame({"": list(lines)}).style.hide(axis=0).hide(axis=1)
    made = str(frame.format(escape="latex").to_latex(column_format="l")).splitlines()
    return [line.removesuffix(r"\\").strip() for line in made[1:-1]]


def latex_notes(lines: Sequence[str]) -> str:
    """Paragraphs in small print; they stand behind a float, because a float cannot be longer than a page."""
    if not lines:
        return ""
    body = "\\par\n".join(latex_words(lines))
    return f"{{\\scriptsize\\setlength{{\\parindent}}{{0pt}}\n{body}\\par}}\n"
