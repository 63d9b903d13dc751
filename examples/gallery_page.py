"""The gallery's page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

STYLE = """
:root { color-scheme: light; --ink: #1d2430; --soft: #5d6675; --line: #dfe3ea; --bar: #c8d6f0; }
body { max-width: 76rem; margin: 2.5rem auto; padding: 0 1.5rem; color: var(--ink); background: #fff;
       font: 16px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { margin-bottom: .2rem; } h2 { margin: 3rem 0 .2rem; padding-top: 1.2rem; border-top: 1px solid var(--line); }
p { max-width: 48rem; color: var(--soft); }
figure { display: grid; grid-template-columns: minmax(0, 1fr) 15rem; gap: .4rem 1.5rem; align-items: center;
         margin: 1.5rem 0; }
figure.wide { grid-template-columns: minmax(0, 1fr); }
img { max-width: 100%; height: auto; }
figcaption { grid-column: 1; max-width: 56rem; color: var(--soft); font-size: .875rem; }
table { border-collapse: collapse; width: 100%; font-size: .8125rem; }
caption { text-align: left; color: var(--soft); padding-bottom: .25rem; }
td { padding: .15rem .4rem; } td:last-child { text-align: right; font-variant-numeric: tabular-nums; }
pre { overflow-x: auto; padding: 1rem; background: #f5f7fa; border-radius: .4rem; font-size: .8125rem; }
@media (max-width: 48rem) { figure { grid-template-columns: minmax(0, 1fr); } }
"""

INTRODUCTION = """Trained networks from PyTorch, from Keras and from a plain .onnx file were each converted once into an
ONNX file that holds the network, the output of every layer, and its gradients. Then, in a process that can import
neither PyTorch nor TensorFlow, the files were loaded with ONNX Runtime and explained. The photos are from scikit-image
(chelsea, coffee, camera: CC0), scikit-learn (china: danielbuechele, CC BY 2.0) and alibi (cats: public domain)."""


@dataclass(frozen=True)
class Plate:
    """A picture with its caption and the most probable classes: name and probability."""

    file: str
    caption: str
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Section:
    """What the gallery shows of one network; ``figures`` are lines of numbers, which stand before the plates."""

    title: str
    text: str
    plates: tuple[Plate, ...]
    figures: str = ""


def page(sections: Sequence[Section], residuals: str) -> str:
    """The whole page, with its style inside; the pictures lie beside it."""
    body = "\n".join(_section(section) for section in sections)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>onnxviz: a gallery</title>
<style>{STYLE}</style>
<h1>Networks that explain themselves</h1>
<p>{INTRODUCTION}</p>
{body}
<h2>How exact the files are</h2>
<p>Measured at conversion, against the original networks: the largest difference of any layer and output, relative to
its largest value, and the same for the gradient of the score with respect to the input.</p>
<pre>{escape(residuals)}</pre>
</html>
"""


def _section(section: Section) -> str:
    plates = "\n".join(_plate(plate) for plate in section.plates)
    figures = f"<pre>{escape(section.figures)}</pre>\n" if section.figures else ""
    return f"<h2>{escape(section.title)}</h2>\n<p>{escape(section.text)}</p>\n{figures}{plates}"


def _plate(plate: Plate) -> str:
    kind = "" if plate.top else ' class="wide"'
    caption = escape(plate.caption)
    return (
        f'<figure{kind}><img src="{escape(plate.file)}" alt="{caption}" loading="lazy">{_top(plate.top)}'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _top(top: tuple[tuple[str, float], ...]) -> str:
    """A table whose rows have a bar behind them, as long as the score is to the highest one."""
    if not top:
        return ""
    highest = max(score for _, score in top)
    rows = []
    for name, score in top:
        share = max(0.0, 100 * score / highest) if highest > 0 else 0.0
        bar = f"background: linear-gradient(90deg, var(--bar) {share:.1f}%, transparent 0)"
        rows.append(f'<tr style="{bar}"><td>{escape(name)}</td><td>{score:.3g}</td></tr>')
    return f"<table><caption>most probable</caption>{''.join(rows)}</table>"
