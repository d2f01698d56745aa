"""Tables examined: the cells of Markdown; LaTeX linted, compiled and read back."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest


def cells(text: str) -> list[list[str]]:
    """The rows of the tables in a text of Markdown."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


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
    code = re.sub(r"S\[table-format=[+-]?\d+\.\d+\]", "S", code)
    code = re.sub(r"(?<=@\{\})p\{\d+pt\}", "l", code)
    body = re.search(r"\\begin\{tabular\}\{@\{\}([lcS]+)@\{\}\}\n(.*)\\end\{tabular\}", code, re.DOTALL)
    assert body
    for line in body[2].splitlines():
        if r"\\" in line:
            spans = [int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
            assert len(re.findall(r"(?<!\\)&", line)) + sum(spans) + 1 == len(body[1]), line
        else:
            assert re.fullmatch(r"\\(toprule|midrule|bottomrule|addlinespace)|(\\cmidrule\(lr\)\{[\d-]+\} ?)+", line)
    prose = re.sub(r"\$[^$]*\$|\\label\{[^}]*\}", "", code)
    assert not re.search(r"(?<!\\)[_^~](?!\{)", prose.replace("~{", "{"))


ONE_COLUMN = r"\documentclass{article}"


CVPR = (
    r"\documentclass[10pt,twocolumn]{article}\usepackage{times}"
    r"\usepackage[letterpaper,textwidth=6.875in,textheight=8.875in]{geometry}\setlength{\columnsep}{0.3125in}"
)
"""The measures and the font of CVPR's style."""


ICML = (
    r"\documentclass[10pt,twocolumn]{article}"
    r"\usepackage[letterpaper,textwidth=6.75in,textheight=9in]{geometry}\setlength{\columnsep}{0.25in}"
)
"""The measures of ICML's style, in TeX's own font, which is wider than ICML's."""


def compiled(tex: str, folder: Path, paper: str = ONE_COLUMN) -> tuple[str, str]:
    """The text of the typeset pages of a paper that has the table and the packages it says it needs, and TeX's log."""
    if not (shutil.which("pdflatex") and shutil.which("pdftotext")):
        pytest.skip("needs pdflatex and pdftotext (texlive-latex-recommended, poppler-utils)")
    needs = sorted(set(re.findall(r"^% needs (\\usepackage.*)$", tex, re.MULTILINE)))
    for name in re.findall(r"[a-z]+(?=[,}])", "".join(needs)):
        if subprocess.run(["kpsewhich", f"{name}.sty"], capture_output=True, check=False).returncode:
            pytest.skip(f"needs the LaTeX package {name}")
    if (
        r"\usepackage{times}" in paper
        and subprocess.run(["kpsewhich", "ptmr7t.tfm"], capture_output=True, check=False).returncode
    ):
        pytest.skip("needs the font Times of TeX (texlive-fonts-recommended)")
    source = f"{paper}{''.join(needs)}\\begin{{document}}\n{tex}\n\\end{{document}}\n"
    (folder / "table.tex").write_text(source, encoding="ascii")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    text = subprocess.run(
        ["pdftotext", "-layout", "table.pdf", "-"], cwd=folder, capture_output=True, text=True, check=True
    )
    return text.stdout, done.stdout
