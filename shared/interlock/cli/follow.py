"""`interlock follow`: every control event as it happens."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from interlock.cli import screen
from interlock.cli.completion import endpoint_names, model_names

WORDS = {
    "model_created": "Model {model} is created by {created_by}",
    "version_registered": "{model} version {version} is pushed by {author}, {digest}",
    "version_approved": "{model} version {version} is approved for {endpoint} by {approver}",
    "endpoint_created": "Endpoint {endpoint} is created for {model} by {created_by}",
    "version_promoted": "{model} version {version} is promoted on {endpoint} by {actor}",
    "rollback_ordered": "{endpoint} goes back from version {from_version} to {to_version}, by {actor}: {reason}",
    "build_started": "{model} version {version} is being built, attempt {attempt}",
    "build_succeeded": "{model} version {version} is built: {vectors} vectors agree, {seconds} s",
    "build_failed": "{model} version {version} could not be built: {code}, {detail}",
    "gate_evaluated": "{model} version {version}, gate {gate}: {verdict}, {metric} {value}",
    "version_warmed": "{model} version {version} is warm for {endpoint}: {vectors} vectors agree, {seconds} s",
    "version_serving": "{model} version {version} serves {endpoint}, epoch {epoch}",
    "route_changed": "{endpoint} has a new route, epoch {epoch}: version {champion_version}",
    "rolled_back": "{endpoint} is back at version {to_version}, epoch {epoch}",
    "version_drained": "{model} version {version} is drained from {endpoint}",
    "drift_detected": "{model} version {version} on {endpoint} no longer looks like its reference: {features}",
    "drift_cleared": "{model} version {version} on {endpoint} looks like its reference again",
    "witness_lost": "the audit log has no witness: {detail}; promotions wait",
    "witness_returned": "the audit log is witnessed again, up to {size} entries",
    "deploy_failed": "{model} version {version} cannot serve {endpoint}: {code}, {detail}",
}


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("follow")(follow)


def follow(
    model: Annotated[str | None, typer.Option(help="Only this model.", autocompletion=model_names)] = None,
    endpoint: Annotated[str | None, typer.Option(help="Only this endpoint.", autocompletion=endpoint_names)] = None,
    after: Annotated[int, typer.Option(help="Begin after this position; 0 shows everything from the start.")] = 0,
    count: Annotated[int | None, typer.Option(help="Stop after so many events.", min=1)] = None,
    once: Annotated[bool, typer.Option("--once", help="Show what has happened so far, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line.")] = False,
) -> None:
    """Print every control event as it happens; Ctrl-C stops."""
    from interlock.client.session import connect

    async def watch() -> None:
        seen = 0
        async with connect() as il:
            position = after
            while True:
                page = await il.timeline_page(position, model=model, endpoint=endpoint, wait_seconds=0 if once else 20)
                for entry in page["entries"]:
                    show(entry, as_json=as_json)
                    seen += 1
                    if count is not None and seen >= count:
                        return
                if once and not page["entries"]:
                    return
                position = page["position"]

    screen.finish(watch)


def show(entry: dict[str, Any], *, as_json: bool) -> None:
    """Print one entry of the timeline."""
    if as_json:
        screen.print_json_line(entry)
    else:
        screen.console().print(f"[dim]{screen.moment(entry.get('at'))}[/dim]  {screen.paint(sentence(entry))}")


def sentence(entry: dict[str, Any]) -> str:
    """Return what an entry says, as a sentence; an event without words of its own is shown by its name."""
    name = short_type(str(entry["type"]))
    words = WORDS.get(name)
    if words is None:
        return name.replace("_", " ")
    return words.format_map(_Shown(entry.get("event") or {}))


def short_type(name: str) -> str:
    """Return `version_promoted` for `io.interlock.version_promoted.v1` and for `VersionPromoted`."""
    if "." in name:
        return name.split(".")[-2] if name.rsplit(".", 1)[-1].startswith("v") else name.rsplit(".", 1)[-1]
    return "".join(
        f"_{letter.lower()}" if letter.isupper() and index else letter.lower() for index, letter in enumerate(name)
    )


class _Shown(dict[str, Any]):
    """An event's fields as a reader wants them: digests short, figures with four digits, nothing missing."""

    def __getitem__(self, name: str) -> Any:
        value = self.get(name)
        if isinstance(value, float):
            return f"{value:.4g}"
        if isinstance(value, str) and value.startswith("sha256:"):
            return screen.short(value)
        if isinstance(value, list):
            return ", ".join(str(each.get("feature", each)) if isinstance(each, dict) else str(each) for each in value)
        return "-" if value is None else value
