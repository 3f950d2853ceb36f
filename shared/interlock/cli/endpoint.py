"""`interlock endpoint`: the stable names that callers bind to."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from interlock.cli import screen
from interlock.cli.completion import endpoint_names, model_names
from interlock.cli.screen import AsJson

EndpointName = Annotated[str, typer.Argument(help="The endpoint's name.", autocompletion=endpoint_names)]


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True, help="List, show and create endpoints, the names that callers bind to.")
    group.command("list")(list_endpoints)
    group.command("show")(show_endpoint)
    group.command("create")(create_endpoint)
    app.add_typer(group, name="endpoint")


def list_endpoints(as_json: AsJson = False) -> None:
    """List every endpoint with the version that answers it."""
    from interlock.client.session import connect

    async def ask() -> list[dict[str, Any]]:
        async with connect() as il:
            return await il.endpoints()

    endpoints = screen.finish(ask)
    if as_json:
        screen.print_json(endpoints)
        return
    rows = [
        (
            each["name"],
            each["model"],
            _number(each.get("champion")),
            _number(each.get("previous")),
            each.get("partitions"),
        )
        for each in endpoints
    ]
    screen.print_table(
        ("ENDPOINT", "MODEL", "CHAMPION", "PREVIOUS", "PARTITIONS"),
        rows,
        "No endpoint yet. Create one: `interlock endpoint create NAME --model MODEL`.",
    )


def show_endpoint(endpoint: EndpointName, as_json: AsJson = False) -> None:
    """Show one endpoint: its topics, its route, and what a request must say."""
    from interlock.client.session import connect

    async def ask() -> dict[str, Any]:
        async with connect() as il:
            return await il.endpoint_details(endpoint)

    found = screen.finish(ask)
    if as_json:
        screen.print_json(found)
        return
    champion = found.get("champion") or {}
    topics = found.get("topics") or {}
    screen.print_facts(
        {
            "endpoint": found["name"],
            "model": found["model"],
            "champion": f"version {champion['version']}, {screen.short(champion.get('digest'))}" if champion else None,
            "previous": _number(found.get("previous")),
            "epoch": found.get("route_epoch"),
            "partitions": found.get("partitions"),
            "failure": found.get("failure"),
            **{name.replace("_", " "): topic for name, topic in topics.items()},
        }
    )
    _print_features(found)


def create_endpoint(
    endpoint: EndpointName,
    model: Annotated[str, typer.Option(help="The model whose versions answer it.", autocompletion=model_names)],
    partitions: Annotated[
        int, typer.Option(help="How many lanes can work side by side; cannot be changed later.", min=1, max=256)
    ] = 4,
    as_json: AsJson = False,
) -> None:
    """Create an endpoint and its topics."""
    from interlock.client.session import connect

    async def ask() -> dict[str, Any]:
        async with connect() as il:
            return await il.create_endpoint(endpoint, model, partitions)

    created = screen.finish(ask)
    if as_json:
        screen.print_json(created)
    else:
        screen.console().print(
            f"Endpoint {endpoint} is created: requests go to {endpoint}.requests, results come on {endpoint}.results."
        )


def _print_features(found: dict[str, Any]) -> None:
    schema = found.get("request_schema")
    if not schema:
        screen.console().print("It has no request schema yet: push a version of its model.")
        return
    document = json.loads(schema) if isinstance(schema, str) else schema
    rows = []
    for field in document["fields"]:
        kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
        name = next((each if isinstance(each, str) else each["logicalType"] for each in kinds if each != "null"), "")
        rows.append((field["name"], name, "optional" if "null" in kinds else "required", field.get("doc")))
    screen.print_table(("FIELD", "TYPE", "", "MEANING"), rows, "")


def _number(arm: Any) -> Any:
    """Return the version number in what the registry says of an arm, however much it says."""
    return arm.get("version") if isinstance(arm, dict) else arm
