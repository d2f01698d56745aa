"""LaTeX tables examined: linted, compiled and read back."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest


def lint(text: str) -> None:
    """Braces pair up, rows have as many columns as the table, everything is ASCII, nothing special stands bare."""
    assert text.isascii()
    code = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", code):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0
    assert code.count("$") % 2 == code.count(r"\$") % 2
    assert not re.search(r"(?<!\\)[%#]", code)
    body = re.search(r"\\begin\{tabular\}\{@\{\}([lc]+)@\{\}\}\n(.*)\\end\{tabular\}", code, re.DOTALL)
    assert body
    for line in body[2].splitlines():
        if r"\\" in line:
            spans = [int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
            assert len(re.findall(r"(?<!\\)&", line)) + sum(spans) + 1 == len(body[1]), line
        else:
            assert re.fullmatch(r"\\(toprule|midrule|bottomrule|addlinespace)|(\\cmidrule\(lr\)\{[\d-]+\} ?)+", line)
    prose = re.sub(r"\$[^$]*\$|\\label\{[^}]*\}", "", code)
    assert not re.search(r"(?<!\\)[_^~](?!\{)", prose.replace("~{", "{"))


def compiled(tex: str, folder: Path) -> tuple[str, str]:
    """The text of the typeset page, and TeX's log."""
    if not (shutil.which("pdflatex") and shutil.which("pdftotext")):
        pytest.skip("needs pdflatex and pdftotext (texlive-latex-recommended, poppler-utils)")
    head = r"\documentclass{article}\usepackage{booktabs}\usepackage{amssymb}\begin{document}"
    (folder / "table.tex").write_text(f"{head}\n{tex}\n\\end{{document}}\n", encoding="ascii")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    text = subprocess.run(
        ["pdftotext", "-layout", "table.pdf", "-"], cwd=folder, capture_output=True, text=True, check=True
    )
    return text.stdout, done.stdout
