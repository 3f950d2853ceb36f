"""`interlock model export`: from a scikit-learn estimator to a model repository, on the author's own machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interlock.cli import screen


def register(app: typer.Typer) -> None:
    """Add the command to its group."""
    app.command("export")(export_model)


def export_model(
    source: Annotated[
        Path, typer.Argument(help="The estimator, saved by joblib or pickle. It is executed: your own file only.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder to write to, such as your model repository.")],
    name: Annotated[str, typer.Option("--name", help="The model's name.")],
    version: Annotated[int, typer.Option("--version", min=1, help="The version's number.")],
    owner: Annotated[str, typer.Option("--owner", help="Who answers for the model.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="CSV of sample rows as it was trained on; they become the vectors.")
    ] = None,
    tolerance: Annotated[float, typer.Option("--tolerance", help="How far ONNX may be off the estimator.")] = 1e-3,
    as_json: screen.AsJson = False,
) -> None:
    """Turn a scikit-learn estimator into ONNX, self-test vectors and a manifest, and prove that they agree."""
    from interlock.export import export

    done = export(source, out, name=name, version=version, owner=owner, data=data, tolerance=tolerance)
    if as_json:
        files = {"folder": str(done.folder), "files": list(done.files), "rows": done.rows}
        screen.print_json(files | {"largest_difference": done.largest_difference, "notes": list(done.notes)})
        return
    screen.print_table(
        ("INPUT", "TYPE", "MAY BE MISSING"),
        [(each.name, each.type, "yes" if each.nullable else "no") for each in done.signature.inputs],
        "",
    )
    console = screen.console()
    console.print(f"Wrote {', '.join(done.files)} to {done.folder.resolve()}.")
    console.print(f"On {done.rows} rows ONNX differs from the estimator by at most {done.largest_difference:.2g}.")
    for note in done.notes:
        screen.notes().print(f"note: {note}")
