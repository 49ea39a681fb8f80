"""The pages of the repository as blocks: what is fenced, and what is indented by four spaces."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
PAGES = [TOP / "README.md", TOP / "CONTRIBUTING.md", *sorted((TOP / "docs").glob("*.md"))]

_REASON = re.compile(r"<!-- not run: (.+) -->")
_COMMAND = re.compile(r"(bench|make|source|pip|bash|python|cd|cat|git)\s")
_NAME = re.compile(r"# (\w[\w./]*\.\w+)$")


@dataclass(frozen=True)
class Block:
    """A block of a page. line: where its text begins, from 1. reason: why it is not run; empty where it is."""

    page: Path
    line: int
    language: str
    text: str
    reason: str

    @property
    def kind(self) -> str:
        """What it is: "shell" for commands, else its language; "text" where it has none."""
        if self.language in ("sh", "bash", "shell", "console") or (not self.language and _COMMAND.match(self.text)):
            return "shell"
        return self.language or "text"

    @property
    def file(self) -> str:
        """The file that its first line, a comment, says it is; empty where it says none."""
        found = _NAME.match(self.text.partition("\n")[0])
        return found[1] if found else ""

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    yield from blocks_of(page.read_text(encoding="utf-8"), page)


def blocks_of(text: str, page: Path) -> Iterator[Block]:
    """All blocks in their order. A comment ``<!-- not run: WHY -->`` on the line above one gives its reason."""
    lines = text.splitlines()
    reason, before, number = "", "", 0
    while number < len(lines):
        line = lines[number]
        if line.startswith("```"):
            end = lines.index("```", number + 1)
            yield Block(page, number + 2, line[3:].strip(), "\n".join(lines[number + 1 : end]) + "\n", reason)
            reason, before, number = "", "```", end + 1
        elif line.startswith("    ") and not before.strip() and not _continues(lines[:number]):
            end = number
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            shown = textwrap.dedent("\n".join(lines[number:end])).strip("\n") + "\n"
            yield Block(page, number + 1, "", shown, reason)
            reason, before, number = "", "", end
        else:
            if line.strip():
                found = _REASON.fullmatch(line.strip())
                reason = found[1] if found else ""
            before, number = line, number + 1


def _continues(above: list[str]) -> bool:
    """Whether what is indented belongs to an item of a list."""
    last = next((line for line in reversed(above) if line.strip()), "")
    return bool(re.match(r"\s*([*-]|\d+\.)\s", last)) or last.startswith("  ")


def commands(block: Block) -> Iterator[str]:
    """What stands after ``bench`` in the lines of a block of commands, continued lines put together."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if line.startswith("bench "):
            yield line.removeprefix("bench ")
