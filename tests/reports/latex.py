"""A small structural check of LaTeX source: environments nest, braces close, rows have as many cells as columns."""

import re


def strip_escapes(source: str) -> str:
    return re.sub(r"\\[&%$#_{}]|\\textbackslash\s*", "x", source)


def check(source: str) -> dict[str, list[list[str]]]:
    """Assert well-formedness; returns the rows of each tabular by its column format."""
    assert not set(re.findall(r"[^\x00-\x7f]", source)) - set("±—†‡"), "a sign that LaTeX does not know by itself"
    plain = strip_escapes("\n".join(line for line in source.splitlines() if not line.startswith("%")))
    depth = 0
    for sign in re.findall(r"[{}]", plain):
        depth += 1 if sign == "{" else -1
        assert depth >= 0, "a brace closes nothing"
    assert depth == 0, "a brace is left open"
    assert plain.count("$") % 2 == 0, "mathematics is left open"
    stack: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{([a-z*]+)\}", plain):
        if kind == "begin":
            stack.append(name)
        else:
            assert stack and stack.pop() == name, f"\\end{{{name}}} closes nothing"
    assert not stack, f"{stack} left open"
    assert "multirow" not in plain
    outside_math = re.sub(r"\$[^$]*\$", "", plain)
    assert not re.search(r"[_^#~]", re.sub(r"\\label\{[^}]*\}", "", outside_math)), "an unescaped special sign"
    tables: dict[str, list[list[str]]] = {}
    pattern = r"\\begin\{(tabular|longtable)\}\{((?:[^{}]|\{[^{}]*\})*)\}\n(.*?)\\end\{\1\}"
    for kind, columns, body in re.findall(pattern, plain, re.DOTALL):
        columns = re.sub(r">\{[^{}]*\}", "", columns)
        if kind == "longtable":
            head = body.split("\\toprule\n")[1].split("\\midrule\n")[0]
            body = head + body.split("\\endlastfoot\n")[1]
        count = len(re.findall(r"[lcr]|p\{[^}]*\}", columns.replace("@{}", "")))
        rows = [
            [cell.strip() for cell in line.removesuffix("\\\\").split("&")]
            for line in body.splitlines()
            if line.strip() and not re.fullmatch(r"\\(top|mid|bottom)rule", line.strip())
        ]
        assert all(len(row) == count for row in rows), f"{columns}: {[len(row) for row in rows]}"
        tables[columns] = rows
    assert tables
    return tables
