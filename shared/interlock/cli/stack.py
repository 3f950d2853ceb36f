"""`interlock up | down | status | doctor | logs | env | token`: the stack on this machine."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interlock.cli import screen
from interlock.errors import Code, Refusal

if TYPE_CHECKING:
    from interlock.embedded.home import Home

STACK_NOT_STARTED = Code("STACK_NOT_STARTED", 503, "The stack did not start", "`interlock doctor` looks for the cause.")
STACK_ABSENT = Code("STACK_ABSENT", 404, "No stack runs here", "`interlock up` starts one.")
PART_UNKNOWN = Code("PART_UNKNOWN", 400, "There is no such part", "`interlock status` lists them.")
ROLE_UNKNOWN = Code("ROLE_UNKNOWN", 400, "There is no such role", "Roles: author, approver, operator, viewer, service.")

Where = Annotated[Path | None, typer.Option("--home", help="Data folder; $INTERLOCK_HOME or ~/.interlock by default.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (up, down, status, doctor, logs):
        app.command(command.__name__)(command)
    app.command("env")(print_environment)
    tokens = typer.Typer(no_args_is_help=True, help="Issue bearer tokens for people and services.")
    tokens.callback()(_tokens)
    tokens.command("issue")(issue_token)
    app.add_typer(tokens, name="token")


def _tokens() -> None:
    """Issue bearer tokens for people and services."""


def _home(given: Path | None) -> Home:
    from interlock.embedded.home import Home, default_folder

    return Home(given or default_folder())


def up(
    home: Where = None,
    only: Annotated[str | None, typer.Option(help="Parts to start, comma-separated; what they need comes too.")] = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay until Ctrl-C, then stop everything.")] = False,
    free_ports: Annotated[bool, typer.Option("--free-ports", help="Leave the usual ports to others.")] = False,
) -> None:
    """Start Kafka, PostgreSQL, Valkey, Ray and the services, and wait until each has proved that it works."""
    from interlock.cli.stack_progress import Display
    from interlock.embedded import EVERYTHING, launch
    from interlock.embedded.plan import UnknownPart

    place = _home(home)
    names = only.split(",") if only else EVERYTHING
    try:
        with Display() as display:
            environment = launch.up(place, names, display.show, owned=foreground, usual_ports=not free_ports)
    except launch.IsRunning as running:
        record = place.record() or {}
        screen.console().print(f"{running} `interlock status` shows it, `interlock down` stops it.")
        raise typer.Exit(0 if record.get("state") == "ready" else 1) from None
    except launch.StartFailed as error:
        raise Refusal(STACK_NOT_STARTED, str(error)) from None
    except UnknownPart as error:
        raise Refusal(PART_UNKNOWN, str(error)) from None
    for name in ("INTERLOCK_URL", "INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"):
        if name in environment:
            screen.console().print(f"{name}={environment[name]}", soft_wrap=True)
    if foreground:
        _stay(place)
    else:
        line = export_line(sys.argv[0], place.folder)
        screen.console().print(f"{line} gives these and all others to your shell.", soft_wrap=True, markup=False)


def export_line(program: str, home: Path) -> str:
    """Return what to type for the stack's variables: it works after `make up` too, whose home is its own."""
    words = ["interlock" if shutil.which("interlock") else program, "env", "--export"]
    if home != Path.home() / ".interlock":
        words += ["--home", str(home)]
    return f'eval "$({shlex.join(words)})"'


def _stay(home: Home) -> None:
    import signal
    import time

    from interlock.embedded.launch import down as stop
    from interlock.embedded.launch import is_running

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    screen.notes().print("Running. Ctrl-C stops everything.")
    try:
        while is_running(home):
            time.sleep(0.5)
    except KeyboardInterrupt:
        screen.notes().print("Stopping.")
    stop(home)


def down(home: Where = None) -> None:
    """Stop everything that `up` started; data stays."""
    from interlock.embedded.launch import down as stop

    place = _home(home)
    with screen.notes().status("Stopping the services, then Ray, Kafka and the databases"):
        stopped = stop(place)
    screen.console().print("Stopped." if stopped else f"No stack runs in {place.folder}.")


def status(home: Where = None, as_json: screen.AsJson = False) -> None:
    """Show what runs, where, since when, and how much memory it takes."""
    from interlock.embedded.figures import read

    found = read(_home(home))
    if as_json:
        screen.print_json(found)
    else:
        _print_status(found)
    if found["state"] != "ready":
        raise typer.Exit(1)


def _print_status(found: dict[str, object]) -> None:
    parts = found["parts"]
    assert isinstance(parts, list)
    rows = [
        [
            part["name"], part["state"], part["health"], part["pid"], part["port"], _duration(part["uptime_seconds"]),
            part["restarts"], f"{part['memory_bytes'] / 1024**2:.0f} MiB",
        ]
        for part in parts
    ]  # fmt: skip
    columns = ["part", "state", "health", "pid", "port", "up", "restarts", "memory"]
    nothing = "Its supervisor was killed" if found["state"] == "died" else "No stack runs"
    screen.print_table(columns, rows, f"{nothing} in {found['home']}; `interlock up` starts one.")
    if parts:
        total = int(str(found["memory_bytes"])) / 1024**2
        screen.console().print(f"\n{found['state']}, {total:.0f} MiB resident in all (PSS: shared pages counted once)")
    if found["failure"]:
        screen.console().print(f"failed: {found['failure']}", markup=False)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"


def doctor(home: Where = None, as_json: screen.AsJson = False) -> None:
    """Check this machine, and say what to do about each finding."""
    from interlock.embedded.doctor import examine

    findings = examine(_home(home))
    if as_json:
        screen.print_json([vars(finding) for finding in findings])
    else:
        rows = [[entry.what, entry.verdict, entry.detail, entry.remedy] for entry in findings]
        screen.print_table(["what", "verdict", "detail", "do"], rows, "Nothing to check.")
    if any(finding.verdict == "bad" for finding in findings):
        raise typer.Exit(1)


def logs(
    part: Annotated[str | None, typer.Argument(help="One part; all of them by default.")] = None,
    home: Where = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option(min=0, help="How many of the last lines of each.")] = 40,
) -> None:
    """Print or follow the logs of one part, or of all."""
    from interlock.embedded.logs import follow as follow_files
    from interlock.embedded.logs import tail

    place = _home(home)
    files = {path.stem: path for path in sorted((place.folder / "logs").glob("*.log"))}
    if part is not None:
        if part not in files:
            raise Refusal(PART_UNKNOWN, f"There is no log of {part!r}; there are {', '.join(files) or 'none yet'}.")
        files = {part: files[part]}
    wide = max((len(name) for name in files), default=0) if len(files) > 1 else 0
    console = screen.console()
    for name, line in (follow_files if follow else tail)(files, lines):
        prefix = f"{name.ljust(wide)} | " if wide else ""
        console.print(prefix + line, markup=False, highlight=False, soft_wrap=True)


def print_environment(
    home: Where = None,
    as_json: screen.AsJson = False,
    export: Annotated[bool, typer.Option("--export", help='For eval "$(interlock env --export)".')] = False,
) -> None:
    """Print the addresses and the token that any client needs."""
    from interlock.embedded.launch import is_running

    place = _home(home)
    record = place.record()
    if record is None or not is_running(place):
        raise Refusal(STACK_ABSENT, f"No stack runs in {place.folder}.")
    if as_json:
        screen.print_json(record["env"])
        return
    for name, value in record["env"].items():
        line = f"export {name}={shlex.quote(value)}" if export else f"{name}={value}"
        typer.echo(line)


def issue_token(
    subject: Annotated[str, typer.Option(help="Who it speaks for.")],
    role: Annotated[list[str], typer.Option(help="author, approver, operator, viewer or service; may be repeated.")],
    home: Where = None,
    days: Annotated[float, typer.Option(min=0.001, max=3650, help="For how long it is valid.")] = 30.0,
) -> None:
    """Print a new bearer token, signed with the stack's key."""
    from interlock.embedded.services import token

    place = _home(home)
    if not place.secret_file("token-private.pem").exists():
        raise Refusal(STACK_ABSENT, f"There is no signing key in {place.folder}.")
    try:
        typer.echo(token(place, subject, tuple(role), int(days * 24 * 3600)))
    except ValueError as error:
        raise Refusal(ROLE_UNKNOWN, str(error)) from None
