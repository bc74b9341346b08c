"""``python -m experiments report``: what has been run, on one page."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from urllib.parse import quote

from markdown_it import MarkdownIt

from experiments.report.options import ReportConfig
from experiments.report.saved_output import OUTPUT, SavedContent, SavedTable, read_output
from experiments.runtime.errors import usage_errors
from pdadmm_jax._files import replacing

Found = list[tuple[Path, SavedContent]]
PNG = b"\x89PNG\r\n\x1a\n"  # how every such file begins

STYLE = """
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222;
       font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 3rem; border-top: 1px solid #ddd; padding-top: 1rem; }
.table { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid #ddd; vertical-align: top; }
th { border-bottom-width: 2px; } td[style$="right"] { white-space: nowrap; }
code { background: #f4f4f4; padding: .1rem .3rem; overflow-wrap: anywhere; }
img { max-width: 100%; }
@media (max-width: 40rem) { body { font-size: 14px; margin: 1rem auto; }
  th, td { padding: .2rem .4rem; } h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; } }
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Experiments with pdadmm_jax</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def main(options: ReportConfig) -> int:
    """Gathers, writes and says where; returns the exit code.

    Raises:
        UsageError: there is nothing to gather, or something is damaged.
    """
    with usage_errors():
        found = gathered(options.runs)
        text = markdown(found)
        page = PAGE.format(style=STYLE, body=html(text, figures(found)))
        for name, content in (("report.md", text), ("report.html", page)):
            with replacing(options.runs / name) as temporary:
                temporary.write_text(content, encoding="utf-8")
    print(f"{len(found)} run(s) gathered in {options.runs}: report.html, report.md")
    return 0


def gathered(folder: Path) -> Found:
    """The output of commands, in the order of the commands; of repeated ones the newest.

    Raises:
        ValueError: there is nothing to gather, or something is damaged.
        OSError: something cannot be read.
    """
    newest: dict[tuple[str, str], tuple[Path, SavedContent]] = {}
    for path in sorted(one.parent for one in folder.glob(f"*/{OUTPUT}")):
        try:
            content = read_output(path)
        except ValueError as error:
            raise ValueError(f"{error}: remove it, or run its command again.") from error
        # One command may make several directories; the date in front of one does not count.
        key = content["command"], re.sub(r"^\d{8}-\d{6}-", "", path.name)
        if key not in newest or newest[key][1]["finished"] <= content["finished"]:
            newest[key] = path, content
    if not newest:
        raise ValueError(
            f"nothing was run in {folder}: run other commands first, such as compare, or say where "
            "with --runs."
        )
    return [newest[key] for key in sorted(newest)]


def figures(found: Found) -> dict[str, bytes]:
    """Figures by the addresses that the page's text has for them.

    Raises:
        ValueError: one is no figure.
        OSError: one cannot be read.
    """
    contents = {}
    for path, content in found:
        for name in content["figures"]:
            contents[_address(path, name)] = figure = (path / name).read_bytes()
            if not figure.startswith(PNG):
                raise ValueError(f"{path / name} is no PNG file: run the command again.")
    return contents


def _address(*parts: Path | str) -> str:
    """Of something beside the page: a directory may have any name."""
    return quote("/".join(part.name if isinstance(part, Path) else part for part in parts))


def markdown(found: Found) -> str:
    """The page's text, figures by their addresses."""
    sections = ["# Experiments with pdadmm_jax"]
    sections.append(_table(_overview(found)))
    for path, content in found:
        environment = content["environment"]
        sections.append(f"## {_literal(path.name)}")
        sections.append(_code(content["command"]))
        sections.append(
            f"Finished {content['finished']} on {environment['devices']}, "
            f"{environment['cores']} cores, jax {environment['jax']}, "
            f"pdadmm_jax {environment['pdadmm_jax']}."
        )
        sections += [
            _table(_literal_cells(p["table"])) if "table" in p else _literal(p["text"])
            for p in content["parts"]
        ]
        sections += [
            f"![{_literal(f'{name} of {path.name}')}]({_address(path, name)})"
            for name in content["figures"]
        ]
    return "\n\n".join(sections) + "\n"


def html(text: str, contents: dict[str, bytes]) -> str:
    """The same for browsers, with the figures in it, and nothing that is fetched from elsewhere."""
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    body = re.sub(r"<h2>(.*?)</h2>", r'<h2 id="\1">\1</h2>', body)
    # A table that is wider than the screen scrolls by itself, not the page with it.
    body = body.replace("<table>", '<div class="table"><table>').replace(
        "</table>", "</table></div>"
    )

    def with_content(source: re.Match[str]) -> str:
        content = base64.b64encode(contents.get(source[1], b"")).decode()
        return f'<img src="data:image/png;base64,{content}"'

    return re.sub(r'<img src="(.*?)"', with_content, body)


def _overview(found: Found) -> SavedTable:
    """One row for every run: a link to it, its main result, and when it finished."""
    rows = [
        [f"[{_literal(path.name)}](#{_address(path)})", _result(content), content["finished"][:10]]
        for path, content in found
    ]
    columns = ["run", "result", "finished"]
    return {"title": None, "columns": columns, "rows": rows, "right": [False, False, True]}


def _result(content: SavedContent) -> str:
    """The main row of the first table: of ``train`` the test samples, else the first one."""
    tables = [part["table"] for part in content["parts"] if "table" in part]
    if not tables or not tables[0]["rows"]:
        return ""
    trained = " train " in content["command"]
    row = tables[0]["rows"][-1 if trained else 0]
    cells = zip(tables[0]["columns"], row, strict=True)
    return _literal(", ".join(f"{name} {cell}".strip() for name, cell in list(cells)[:4]))


def _literal(text: str) -> str:
    """A text in Markdown that shows it as it is, whatever it may look like."""
    return re.sub(r"[\\`*\[\]<&~]|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)


def _literal_cells(table: SavedTable) -> SavedTable:
    """A table whose texts Markdown shows as they are."""
    rows = [list(map(_literal, row)) for row in table["rows"]]
    columns, title = list(map(_literal, table["columns"])), _literal(table["title"] or "")
    return {"title": title, "columns": columns, "rows": rows, "right": table["right"]}


def _code(text: str) -> str:
    """A text in Markdown that shows it as it is, in the letters of a program."""
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{ticks}{text}{ticks}" if ticks == "`" else f"{ticks} {text} {ticks}"


def _table(table: SavedTable) -> str:
    rows = [
        table["columns"],
        ["---:" if right else ":---" for right in table["right"]],
        *table["rows"],
    ]
    lines = ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows]
    title = [f"**{table['title']}**", ""] if table["title"] else []
    return "\n".join([*title, *lines])
