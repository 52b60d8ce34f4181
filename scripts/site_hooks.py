"""What mkdocs fills into pages while it builds the site: the command line, the public names.

A page holds a line ``<!-- generated: NAME -->``, in whose place the function of that name in :data:`GENERATED` writes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
MARK = re.compile(r"^<!-- generated: ([a-z_]+) -->$", re.MULTILINE)
IMPORT = re.compile(r"^from \.([\w.]*) import (\w+) as \w+", re.MULTILINE)
RESULTS = "benchmarks/results"
ROLE = re.compile(r":(?:class|func|meth|data|mod|attr):<code>~?(?:[\w.]*\.)?(\w+)</code>")


def on_files(files: Files, config: Any, **context: Any) -> Files:
    """Add the results, which documents link to."""
    for path in sorted((ROOT / RESULTS).rglob("*")):
        if path.suffix in (".csv", ".png"):
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **context: Any) -> str:
    """Fill in what is generated; results stand beside the pages of the site, not above them."""
    return MARK.sub(lambda found: GENERATED[found[1]](), markdown.replace(f"](../{RESULTS}", f"]({RESULTS}"))


def on_page_content(html: str, **context: Any) -> str:
    """Show the names that docstrings refer to."""
    return ROLE.sub(r"<code>\1</code>", html)


class Examples(griffe.Extension):
    """Let griffe see what a docstring here calls ``Example:``, as code."""

    def on_object(self, *, obj: griffe.Object, **context: Any) -> None:  # noqa: D102
        if obj.docstring:
            obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)


def command_line() -> str:
    """Return every command with its arguments and options."""
    import typer

    from po2quant.cli import app

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    parts = []
    for name, command in commands.items():
        context = command.make_context(name, [], resilient_parsing=True)
        context.info_name = f"po2quant {name}"
        parts += [f"## {name}", _plain(command.help or ""), f"```text\n{command.get_usage(context)}\n```"]
        examples = re.sub(r"^\s*Examples:\s*", "", (command.epilog or "").replace("\b", "").strip())
        if examples:
            lines = "\n".join(line.strip() for line in examples.splitlines())
            parts.append(f"```text\n{lines}\n```")
        rows = [_option(parameter, context) for parameter in command.params if not getattr(parameter, "hidden", False)]
        parts.append("\n".join(["| argument | takes | by default | |", "|---|---|---|---|", *rows]))
    return "\n\n".join(parts)


def _option(parameter: Any, context: Any) -> str:
    names = [*parameter.opts, *parameter.secondary_opts] if parameter.param_type_name == "option" else [parameter.name]
    default = parameter.get_default(context)
    shown = "" if default is None or default is False or callable(default) else f"`{default}`"
    words = [
        ", ".join(f"`{name}`" for name in names),
        "" if getattr(parameter, "is_flag", False) else _plain(parameter.display_type(context).strip("<>")),
    ]
    return f"| {' | '.join([*words, shown, _plain(getattr(parameter, 'help', '') or '')])} |"


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def public_names() -> str:
    """Return the public names, each with its docstring."""
    stub = (ROOT / "po2quant" / "__init__.pyi").read_text(encoding="utf-8")
    return "\n\n".join(f"::: po2quant.{module}.{name}".replace("..", ".") for module, name in IMPORT.findall(stub))


GENERATED: dict[str, Callable[[], str]] = {
    "command_line": command_line,
    "public_names": public_names,
}
