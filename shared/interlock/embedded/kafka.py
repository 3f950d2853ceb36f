"""Apache Kafka itself as a part: one KRaft node (broker and controller) with settings for a small machine."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import uuid
from pathlib import Path

from interlock.embedded import jars
from interlock.embedded.home import Home, cache_folder, write_whole
from interlock.embedded.java import Java, find
from interlock.embedded.part import CannotStart, Launch, NotReady, Part, Report, base_environment, run_once

FORMAT_SECONDS_MAX = 60.0
CLEAN_CODES = (0, 143)  # 143: ended by SIGTERM, after its shutdown hooks

MEMORY = (
    "-Xms128m", "-Xmx320m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
    "-XX:MaxDirectMemorySize=96m", "-XX:ReservedCodeCacheSize=64m", "-XX:MaxMetaspaceSize=128m",
    "-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError",
)  # fmt: skip

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=BROKER://127.0.0.1:{port}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
log.dirs={data}

# One node: every internal topic has one replica.
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=4

# Topics are declared, never made by a typing mistake.
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.retention.minutes=43200
# A producer that was killed must not hold read_committed readers up.
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
# A broker that was killed may register again only when its old session has run out.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500

num.network.threads=2
num.io.threads=4
background.threads=2
num.recovery.threads.per.data.dir=1
num.replica.fetchers=1
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=16777216
log.cleaner.io.buffer.size=262144
# Requests of an endpoint may be 16 MiB; its topic says so itself.
replica.fetch.max.bytes=17825792
queued.max.requests=64
"""

LOGGING = """\
status=error
rootLogger.level=WARN
rootLogger.appenderRef.out.ref=out
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{yyyy-MM-dd'T'HH:mm:ss.SSS} %-5p %c{1} %m%n
"""


def bootstrap_servers(port: int) -> str:
    """Return the address for clients."""
    return f"127.0.0.1:{port}"


class Broker:
    """The files and command lines of the one node."""

    def __init__(self, home: Home, port: int, controller_port: int) -> None:
        self._folder = home.data("kafka")
        self._port = port
        self._controller_port = controller_port
        self._properties = self._folder / "server.properties"
        self._logging = self._folder / "log4j2.properties"
        self._classes = self._folder / "classes.jsa"
        self._found: tuple[Java, Path] | None = None

    async def prepare(self, report: Report) -> None:
        """Find Java and the jars, write the properties, format the storage the first time; raises CannotStart."""
        java = await asyncio.to_thread(find)
        report("looking for the jars")
        libraries = await asyncio.to_thread(
            jars.folder, lambda here, total: report(f"fetching Kafka's jars: {here} of {total}")
        )
        self._found = java, libraries
        self._folder.mkdir(exist_ok=True)
        data = self._folder / "data"
        text = PROPERTIES.format(port=self._port, controller_port=self._controller_port, data=data)
        write_whole(self._properties, text.encode())
        write_whole(self._logging, LOGGING.encode())
        if not (data / "meta.properties").exists():
            report("formatting the storage")
            await self._format()

    async def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # One word: an id may begin with a dash, and would be taken for an option.
        arguments = ["format", f"--cluster-id={cluster}", "--config", str(self._properties), "--ignore-formatted"]
        try:
            await run_once(self._command("kafka.tools.StorageTool", *arguments), base_environment(), FORMAT_SECONDS_MAX)
        except NotReady as error:
            raise CannotStart(f"Kafka's storage could not be formatted: {error}") from error

    def _tools(self) -> tuple[Java, Path]:
        assert self._found is not None, "prepare comes first"
        return self._found

    def _command(self, main_class: str, *arguments: str, options: tuple[str, ...] = ()) -> list[str]:
        java, libraries = self._tools()
        return [
            str(java.program), *MEMORY, *options, f"-Dlog4j2.configurationFile={self._logging}",
            "-cp", jars.class_path(libraries), main_class, *arguments,
        ]  # fmt: skip

    def _archive(self) -> Path | None:
        """Return where the shared class archive of this Java and these jars belongs; None where one cannot write."""
        java, libraries = self._tools()
        place = cache_folder() / f"kafka-{jars.kafka_version()}"
        if libraries != place / "libs":
            return None  # the user's own Kafka: its jars may change under a name that does not
        return place / f"classes-{java.version.replace('/', '_')}.jsa"

    def _archive_options(self) -> tuple[str, ...]:
        """Return the options that read the archive (a second of CPU less at start), or write it at the first stop."""
        archive = self._archive()
        if archive is None:
            return ()
        quiet = ("-Xlog:cds=off", "-Xlog:cds+dynamic=off", "-Xlog:class+path=off")
        if archive.exists():
            return (f"-XX:SharedArchiveFile={archive}", "-Xshare:auto", *quiet)
        self._classes.unlink(missing_ok=True)
        return (f"-XX:ArchiveClassesAtExit={self._classes}", *quiet)

    def stopped(self, code: int) -> None:
        """Keep the class archive that a clean stop wrote; a killed Java may have left half of one."""
        archive = self._archive() if self._found is not None else None
        if archive is None or not self._classes.exists():
            return
        if code in CLEAN_CODES:
            shutil.copyfile(self._classes, archive.with_suffix(f".{os.getpid()}"))
            archive.with_suffix(f".{os.getpid()}").replace(archive)
        self._classes.unlink(missing_ok=True)

    def launch(self) -> Launch:
        """Return the broker's command line."""
        command = self._command("kafka.Kafka", str(self._properties), options=self._archive_options())
        return Launch(command, base_environment(), self._folder)

    async def ready(self) -> None:
        """Do a transactional produce and a read_committed consume."""
        from interlock.kafka.ready import produce_and_consume

        await produce_and_consume(bootstrap_servers(self._port))


def part(home: Home, port: int, controller_port: int) -> Part:
    """Return the Kafka part."""
    broker = Broker(home, port, controller_port)
    return Part(
        "kafka",
        port,
        broker.launch,
        broker.ready,
        prepare=broker.prepare,
        stopped=broker.stopped,
        stop_seconds=20.0,
        ready_seconds=90.0,
    )
