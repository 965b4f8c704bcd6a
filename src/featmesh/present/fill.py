"""Pages out of files with ``{{names}}`` in them; the standard library only."""

import importlib.resources
import re
from collections.abc import Mapping


def fill(template: str, values: Mapping[str, str]) -> str:
    """Return the template with each ``{{name}}`` replaced once; inserted text is not read again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], template)


def page_text(name: str, package: str = __package__) -> str:
    """Return the text of a package's file, of this one's where none is named."""
    return importlib.resources.files(package).joinpath(name).read_text("utf-8")


def house_style() -> str:
    """Return the style sheet of the result page, which other pages wear too."""
    found = re.search(r"<style>(.*?)</style>", page_text("result_page.html"), re.DOTALL)
    return found[1] if found else ""
