"""Write what is generated, or with --check name what is stale: `python -m interlock.codegen [--check]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from interlock import __version__
from interlock.codegen import access, asyncapi, picture, python, reference, released
from interlock.codegen.source import Source, SourceError, load


def render(source: Source) -> dict[str, str]:
    """Return the text of every generated file by its path from the root."""
    return {
        **python.render(source),
        **asyncapi.render(source, __version__),
        **access.render(source),
        **picture.render(source),
        **reference.render(source),
    }


def stale(root: Path, files: dict[str, str]) -> list[str]:
    """Return the paths whose text on disk is not what would be generated."""
    return [path for path, text in sorted(files.items()) if _on_disk(root / path) != text]


def main(arguments: list[str] | None = None) -> int:
    """Generate, check or release; the exit code is 1 where something is stale, incompatible or makes no sense."""
    parser = argparse.ArgumentParser(prog="python -m interlock.codegen", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 and name the files that are stale")
    parser.add_argument(
        "--release", metavar="VERSION", help="freeze a copy of the schemas under schemas/released/VERSION"
    )
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the repository (default: here)")
    options = parser.parse_args(arguments)
    try:
        source = load(options.root)
        if found := released.problems(source):
            raise SourceError("\n".join(found))
        if options.release:
            sys.stdout.writelines(f"frozen: {path}\n" for path in released.freeze(source, options.release))
        files = render(source)
    except SourceError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    changed = stale(options.root, files)
    for path in changed:
        if not options.check:
            (options.root / path).parent.mkdir(parents=True, exist_ok=True)
            (options.root / path).write_text(files[path])
        sys.stdout.write(f"{'stale' if options.check else 'written'}: {path}\n")
    return 1 if options.check and changed else 0


def _on_disk(path: Path) -> str | None:
    return path.read_text() if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main())
