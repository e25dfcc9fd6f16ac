"""Putting scripts, data and pictures into one HTML file.

Inside <script> a browser reads up to the next "</script", and "<!--" with "<script" changes how it reads; all three are
written with an escape that means the same to JavaScript and JSON. Everything else is escaped by the template.
"""

from __future__ import annotations

import base64
import io
import json
import re
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

__all__ = ["embed_json", "embed_script", "embed_style", "picture"]


def embed_script(source: str) -> Markup:
    """JavaScript for the inside of <script>."""
    # They can stand in strings, regular expressions and templates alone, and there \x3c is <.
    source = re.sub(r"<(?=/?script|!--)", r"\\x3c", source, flags=re.IGNORECASE)
    source = re.sub(r"(?m)^//# sourceMappingURL=.*$", "", source)  # it names a file that is not there
    return Markup(source)


def embed_style(source: str) -> Markup:
    """CSS for the inside of <style>."""
    if re.search("</style", source, flags=re.IGNORECASE):
        raise ValueError("a style sheet must not hold </style, which would end it in the page")
    return Markup(re.sub(r"/\*# sourceMappingURL=.*?\*/", "", source))


def embed_json(content: Any) -> Markup:
    """JSON for the inside of <script type="application/json">; NaN is an error."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return Markup(text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e"))


def picture(figure: Figure) -> str:
    """A figure as the data URI of an SVG, the same for the same figure."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    # Text is drawn with the reader's fonts; Verdana has the widths that matplotlib's own font was laid out with.
    text = stream.getvalue().replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    return "data:image/svg+xml;base64," + base64.b64encode(text.encode("utf-8")).decode("ascii")
