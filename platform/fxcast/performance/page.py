"""A page that no link leads out of: its template filled in, its pictures inside it."""

from __future__ import annotations

import base64

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from fxcast.performance.pictures import Picture


def render(package: str, template: str, **content: object) -> str:
    """Return a template of a package filled in; what is no template comes out as text, never as markup.

    Beside the package's own templates it finds `page.css.jinja` and `page_parts.html.jinja`.
    """
    loader = ChoiceLoader([PackageLoader(package, "."), PackageLoader("fxcast.performance", ".")])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    return environment.get_template(template).render(**content, embedded=_embedded)


def _embedded(picture: Picture) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.path.read_bytes()).decode("ascii")
