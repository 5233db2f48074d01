"""What every committed notebook must be: `problems` reads one and says in sentences what it is not."""

import ast
import re
from collections.abc import Iterator

from nbformat import NotebookNode

from notebooks.run import code_cells, code_hash

MOST_CELLS = 25
WIDGET = "application/vnd.jupyter.widget-view+json"
CONTROL = re.compile(r"interact|explore\w*|frame_slider")
ABSOLUTE = re.compile(r"""(?<![\w.:/<-])/(?:root|home|Users|tmp|work|usr|opt|mnt|var|private)/\w|\b[A-Z]:\\\w""")


def problems(notebook: NotebookNode, promised: set[str]) -> list[str]:
    checks = (_frame, _opening, _substance, _execution, _widgets, _alt_text, _imports)
    found = [fault for check in checks for fault in check(notebook)]
    return found + list(_figures(notebook, promised))


def _frame(notebook: NotebookNode) -> Iterator[str]:
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "the kernel is not python3"
    if len(code_cells(notebook)) > MOST_CELLS:
        yield f"{len(code_cells(notebook))} code cells, at most {MOST_CELLS}"
    for index, text in enumerate(_texts(notebook)):
        if path := ABSOLUTE.search(text):
            yield f"an absolute path, {path.group()}..., in text {index}"


def _texts(notebook: NotebookNode) -> Iterator[str]:
    for cell in notebook.cells:
        yield cell.source
        for output in cell.get("outputs", []):
            yield output.get("text", "") + "\n".join(output.get("traceback", []))
            # data URIs may hold anything
            yield from (re.sub(r"base64,[^\"']*", "", str(data)) for mime, data in _data(output) if _is_text(mime))


def tags(cell: NotebookNode) -> list[str]:
    return list(cell.metadata.get("tags", []))


def _data(output: NotebookNode) -> list[tuple[str, str]]:
    return list(output.get("data", {}).items())


def _is_text(mime: str) -> bool:
    return mime.startswith("text/")


def _opening(notebook: NotebookNode) -> Iterator[str]:
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    titles = [line for text in prose for line in text.splitlines() if re.match(r"# \S", line)]
    first = notebook.cells[0]
    if len(titles) != 1 or first.cell_type != "markdown" or not first.source.startswith("# "):
        yield f"the first cell must hold the only title (# ...), there are {len(titles)}"
    if "](http" not in first.source:
        yield "the first cell has no link to the paper"
    if not re.search(r"\bcosts?\b", first.source, re.IGNORECASE):
        yield "the first cell does not say what the notebook costs"
    if "parameters" not in tags(notebook.cells[1]):
        yield "the second cell must be the parameters"
    for line in _tree(notebook.cells[1]).body if notebook.cells[1].cell_type == "code" else []:
        if not (isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant)):
            yield f"`{ast.unparse(line)}` in the parameters cell is no `name = literal`"
    for line in notebook.cells[1].source.splitlines():
        if "=" in line.partition("#")[0] and not line.partition("#")[2].strip():
            yield f"parameter without unit or range in a comment: {line}"
    if not re.match(r"#+ Provenance", [text for text in prose if text.startswith("#")][-1]):
        yield "the last heading must be Provenance"


def _substance(notebook: NotebookNode) -> Iterator[str]:
    cells = code_cells(notebook)
    if not any(_asserts(cell) for cell in cells if "negative-control" not in tags(cell)):
        yield "no assert outside the negative control"
    if not any(_asserts(cell) for cell in cells if "negative-control" in tags(cell)):
        yield "no cell tagged negative-control that asserts"
    if not any("nbval-check-output" in tags(cell) for cell in cells):
        yield "no cell tagged nbval-check-output"
    for cell in cells:
        if "nbval-check-output" in tags(cell) and any(output.output_type != "stream" for output in cell.outputs):
            yield f"cell [{cell.execution_count}] is checked by nbval and must only print"


def _asserts(cell: NotebookNode) -> bool:
    return any(isinstance(node, ast.Assert) for node in ast.walk(_tree(cell)))


def _tree(cell: NotebookNode) -> ast.Module:
    return ast.parse("\n".join(line for line in cell.source.splitlines() if not line.startswith(("%", "!"))))


def _execution(notebook: NotebookNode) -> Iterator[str]:
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"not executed in order from top to bottom: {counts}"
    if notebook.metadata.get("interp", {}).get("code") != code_hash(notebook):
        yield "the code is not what was executed: run `make notebooks`"
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if output.output_type == "error" or output.get("name") == "stderr":
                yield f"cell [{cell.execution_count}] has an error or a warning in its output"


def _widgets(notebook: NotebookNode) -> Iterator[str]:
    if "widgets" in notebook.metadata:
        yield "widget state is committed (metadata.widgets)"
    controls = [cell for cell in code_cells(notebook) if any(map(CONTROL.fullmatch, _calls(cell)))]
    if not controls:
        yield "no control for the reader (explore, explore_..., frame_slider)"
    for cell in controls:
        if "nbval-ignore-output" not in tags(cell):
            yield f"cell [{cell.execution_count}] makes a control and lacks the tag nbval-ignore-output"
    if any(mime == WIDGET for cell in code_cells(notebook) for output in cell.outputs for mime, _ in _data(output)):
        yield "a widget is committed as an output"


def _calls(cell: NotebookNode) -> set[str]:
    return {name for name, _ in _named_calls(cell)}


def _named_calls(cell: NotebookNode) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(_tree(cell)):
        if isinstance(node, ast.Call):
            yield getattr(node.func, "id", getattr(node.func, "attr", "")), node


def _alt_text(notebook: NotebookNode) -> Iterator[str]:
    for position, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            for mime, data in _data(output):
                alt = output.get("metadata", {}).get(mime, {}).get("alt", "")
                if mime.startswith("image/") and not alt.strip():
                    yield f"cell {position}: a picture without alt text; end the cell with save_figure(..., alt=...)"
                if mime == "text/html":
                    yield from (f"cell {position}: {fault}" for fault in _bare_tags(data))
        if cell.cell_type == "markdown":
            yield from (f"cell {position}: {fault}" for fault in _bare_tags(cell.source))
            if re.search(r"!\[\s*\]\(", cell.source):
                yield f"cell {position}: a picture without alt text"


def _bare_tags(text: str) -> Iterator[str]:
    for tag in re.findall(r"<(?:img|video)\b[^>]*>", text):
        if not re.search(r"""\b(?:alt|aria-label)=(?:"\s*[^"\s]|'\s*[^'\s])""", tag):
            yield "a picture without alt text"


FACES = ("interp_lib.bench", "interp_lib.show")


def _imports(notebook: NotebookNode) -> Iterator[str]:
    for cell in code_cells(notebook):
        for node in ast.walk(_tree(cell)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if inner := [name for name in names if name.startswith("interp_lib.") and name not in FACES]:
                yield f"imports {inner[0]}: notebooks know only public names"


def _figures(notebook: NotebookNode, promised: set[str]) -> Iterator[str]:
    made: set[str] = set()
    for cell in code_cells(notebook):
        for name, call in _named_calls(cell):
            place = {"save_figure": 1, "figure_path": 0}.get(name)
            if place is None:
                continue
            given = call.args[place] if len(call.args) > place else None
            if not (isinstance(given, ast.Constant) and isinstance(given.value, str)):
                yield f"cell [{cell.execution_count}]: {name} must be given its name as a literal"
            else:
                made.add(f"{given.value}.png" if name == "save_figure" else given.value)
    if made != promised:
        differing = ", ".join(sorted(made ^ promised))
        yield f"figures named here and promised by the Makefile differ: {differing}"
