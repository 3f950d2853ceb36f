"""The chapters of the watchers: the world changes, the truth arrives, a decision is explained, the record proved."""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import datetime
from typing import Any, Final

from examples.fraud.closing import STEADY_PER_SECOND
from examples.fraud.processes import DemoFailed
from examples.fraud.seen import WINDOW_SECONDS, Seen
from examples.fraud.stage import ENDPOINT, STEP_SECONDS_MAX, WARM_PER_SECOND, Stage

WATCHING: Final = {
    "INTERLOCK_WINDOW_SECONDS": f"{WINDOW_SECONDS:g}",
    "INTERLOCK_QUALITY_EVERY_SECONDS": "1",
}
"""What a demo wants shorter than life: windows of seconds, and the truth counted each second."""
CHANGED_SECONDS: Final = 12.0
LINE_CHARACTERS_MAX: Final = 130
SETTLED_SECONDS: Final = 2.5
VERSION: Final = 2
CASE: Final = f"{ENDPOINT}.requests/1/5000"


class Watchers:
    """The monitor and the auditor at work, as the people at them see it."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.seen = Seen()

    async def world_changes(self) -> None:
        """Let prices rise and a new fraud begin; wait until the monitor says what no longer looks as it did."""
        stage = self._stage
        stage.display.chapter("The world changes: prices rise, and a new kind of fraud begins")
        await stage.stream.tell(do="shift")
        self.seen.changed_at = time.time()
        await stage.stream.tell(do="rate", per_second=STEADY_PER_SECOND, phase="d")
        await stage.watch(asyncio.sleep(CHANGED_SECONDS))

        async def alarms() -> list[dict[str, Any]]:
            entries = (await stage.olga.timeline_page(endpoint=ENDPOINT, newest=1000))["entries"]
            return [each["event"] for each in entries if each["type"] == "DriftDetected"]

        async def alarm() -> dict[str, Any] | None:
            new = [each for each in await alarms() if _ends(each) > self.seen.changed_at and each["version"] == VERSION]
            return new[0] if new else None

        self.seen.drift = await stage.until(alarm, "the drift is reported")
        self.seen.early_alarms = sum(_ends(each) <= self.seen.changed_at for each in await alarms())
        await stage.stream.tell(do="rate", per_second=WARM_PER_SECOND, phase="d")
        for each in self.seen.drift["features"]:
            stage.display.say(
                f"drift: {each['feature']}, {each['statistic']} {each['value']:.3f} (from {each['threshold']:.3f} on), "
                f"median {_number(each['median'])} instead of {_number(each['reference_median'])}",
                "yellow",
            )

    async def truth_arrives(self) -> None:
        """Send labels for what v2 answered before and after, some twice, some corrected, some about nothing."""
        stage, seen = self._stage, self.seen
        stage.display.chapter("The truth arrives: investigators and chargebacks label what was answered")
        for phase in ("s", "d"):
            await stage.stream.tell(do="label", phase=phase)
            sent = (await stage.watch(stage.stream.hear("labelled", STEP_SECONDS_MAX)))["labels"]

        counted_at = [time.monotonic()]

        async def measured() -> dict[str, Any] | None:
            answer = await stage.olga.quality(ENDPOINT, version=VERSION)
            found = [each for each in answer["versions"] if each["version"] == VERSION]
            if not found:
                return None
            windows = found[0]["windows"]
            seen.recall_before = _recall([each for each in windows if _ends(each) <= seen.changed_at])
            seen.recall_after = _recall(
                [each for each in windows if _ends(each) > seen.changed_at + WINDOW_SECONDS and each["positives"] > 0]
            )
            if found[0]["labelled"] != seen.labelled:
                seen.labelled, counted_at[:] = found[0]["labelled"], [time.monotonic()]
            taken = _taken(answer["labels"])
            settled = taken >= sent and time.monotonic() - counted_at[0] > SETTLED_SECONDS
            return answer if settled and seen.recall_before is not None and seen.recall_after is not None else None

        answer = await stage.until(measured, "the labels are counted")
        stage.display.say(
            f"{seen.labelled:,} answers of version {VERSION} have their labels; of all labels {_counts(answer)}. "
            f"Recall was {_share(seen.recall_before)}, and is "
            f"{_share(seen.recall_after)} since the world changed.",
            "red",
        )

    async def one_case(self) -> None:
        """Explain one decision, and have a stranger's script verify the bundle, offline."""
        stage, seen = self._stage, self.seen
        stage.display.chapter("One decision, explained and proved")
        await self._recorded()
        bundle, verifier = stage.work / "case.json", stage.work / "verifier.py"
        stage.display.command(f"interlock case {CASE} --bundle case.json --verifier verifier.py", "risk")
        began = time.perf_counter()
        case = await stage.olga.case(CASE)
        seen.case_seconds = time.perf_counter() - began
        seen.case_complete = bool(case.get("name") == CASE)
        await stage.run("case", CASE, "--bundle", str(bundle), "--verifier", str(verifier))
        keys = await self._keys()
        stage.display.command("python -I verifier.py case.json --log-key … --witness-key …", "stranger")
        status, said = await _alone(str(verifier), str(bundle), *keys)
        for line in said.splitlines():
            stage.display.remote(line.rstrip()[:LINE_CHARACTERS_MAX])
        seen.bundle_verified = status == 0
        if status:
            stage.display.say("The stranger's script refuses the bundle.", "bold red")

    async def whole_record(self) -> None:
        """Verify the whole audit log, and show its head."""
        stage, seen = self._stage, self.seen
        stage.display.command("interlock audit verify", "risk")
        try:
            said = await stage.run("audit", "verify")
            seen.log_verified = True
        except DemoFailed as failed:
            said = str(failed)
        for line in said.splitlines():
            stage.display.remote(line.rstrip()[:LINE_CHARACTERS_MAX])
        head = await stage.olga.audit_head()
        seen.log_entries, seen.log_root = head["size"], head["root"]

    async def _recorded(self) -> None:
        """Wait until the witness has signed for what the log holds now."""
        size = (await self._stage.olga.audit_head())["size"]

        async def witnessed() -> bool:
            head = await self._stage.olga.audit_head()
            return bool((head["witnessed_size"] or 0) >= size > 0)

        await self._stage.stream.tell(do="rate", per_second=0, phase="w")
        await self._stage.until(witnessed, "the witness has signed what was answered")

    async def _keys(self) -> tuple[str, ...]:
        """Return the words by which the verifier is told whom to believe."""
        answer = await self._stage.olga.auditor.get("/v1/keys")
        return ("--log-key", answer["log"], "--witness-key", answer["witness"])


async def _alone(script: str, *words: str) -> tuple[int, str]:
    """Run a script by itself: nothing of ours can be imported, nothing in the environment leads to a server."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", script, *words,
        env={},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


def _taken(labels: dict[str, Any]) -> int:
    """Return how many labels the monitor has taken in, whatever became of them."""
    return int(labels["recorded"] + labels["corrected"] + labels["repeated"] + sum(labels["refused"].values()))


def _counts(answer: dict[str, Any]) -> str:
    """Return what became of the labels, in words."""
    labels = answer["labels"]
    return (
        f"{labels['corrected']} were corrections, {labels['repeated']} said the same again, and "
        f"{answer['waiting_labels']} wait for requests that nobody knows"
    )


def _recall(windows: list[dict[str, Any]]) -> float | None:
    """Return the recall over several windows: what was found of all that is positive."""
    positives = sum(each["positives"] for each in windows)
    found = sum(each["recall"] * each["positives"] for each in windows if each["recall"] is not None)
    return found / positives if positives else None


def _ends(window: dict[str, Any]) -> float:
    return datetime.fromisoformat(window["window_end"]).timestamp()


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}"
