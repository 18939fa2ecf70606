"""Escapes that no kept library offers in one call."""

import pandas as pd


def markdown_escape(words: str) -> str:
    """Words as they are, in Markdown."""
    out = words.replace("\\", "\\\\")
    for sign in "|*_<>`[]":
        out = out.replace(sign, f"\\{sign}")
    return out.replace("\n", " ")


def latex_words(lines: list[str], columns: str) -> str:
    """A LaTeX tabular of one column with these lines, escaped by pandas."""
    frame = pd.DataFrame({"": lines}).style.hide(axis=0).hide(axis=1)
    return str(frame.format(escape="latex").to_latex(column_format=columns))
