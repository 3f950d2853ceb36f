"""The Faust app: an agent for observations, an agent for labels, each a line over the intake."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import faust
from faust.app.base import BootStrategy

from interlock_monitor.agents_transport import ReadingTransport
from interlock_monitor.intake import Intake
from interlock_monitor.model import LABELS, OBSERVATIONS
from interlock_monitor.settings import Settings

REQUEST_SECONDS_MAX: Final = 8.0
COMMIT_SECONDS: Final = 1.0

Failed = Callable[[BaseException], None]


class _Parts(BootStrategy):
    """What of Faust is started: consumer, conductor, agents. It sends nothing, serves nothing, measures nothing."""

    enable_kafka_producer = False
    enable_web = False
    enable_sensors = False


class App(faust.App):
    """An app that tells of an agent's failure at once, in place of skipping the record that it failed on."""

    BootStrategy = _Parts

    def __init__(self, settings: Settings, failed: Failed, **arguments: Any) -> None:
        super().__init__(settings.stream_group, **arguments)
        self._failed = failed

    async def _on_agent_error(self, agent: Any, exc: BaseException) -> None:
        self._failed(exc)

    def _create_directories(self) -> None:
        """Make none: nothing is kept on disk."""


def make_app(settings: Settings, endpoints: Sequence[str], intake: Intake, failed: Failed) -> App:
    """Return the app for these endpoints, not started. An app is never mended: after any failure a new one is made."""
    brokers = [f"kafka://{each.strip()}" for each in settings.kafka_bootstrap_servers.split(",")]
    app = App(
        settings,
        failed,
        broker=brokers,
        autodiscover=False,
        store="memory://",
        processing_guarantee="at_least_once",
        key_serializer="raw",
        value_serializer="raw",
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        broker_session_timeout=settings.kafka_session_seconds,
        broker_heartbeat_interval=settings.kafka_session_seconds / 4,
        broker_rebalance_timeout=2 * settings.kafka_session_seconds,
        broker_request_timeout=max(REQUEST_SECONDS_MAX, 2 * settings.kafka_session_seconds),
        broker_max_poll_records=settings.stream_records_max,
        broker_commit_interval=COMMIT_SECONDS,
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=False,
        stream_buffer_maxsize=settings.stream_records_max,
        web_enabled=False,
        worker_redirect_stdouts=False,
    )
    app.transport = ReadingTransport(app.conf.broker_consumer, app, settings, intake)

    async def observations(stream: Any) -> None:
        async for event in stream.events():
            await intake.take_observation(event.message)

    async def labels(stream: Any) -> None:
        async for event in stream.events():
            await intake.take_label(event.message)

    for agent, ending in ((observations, OBSERVATIONS), (labels, LABELS)):
        topic = app.topic(*(name + ending for name in endpoints), key_type=bytes, value_type=bytes)
        app.agent(topic, name=agent.__name__, concurrency=1)(agent)
    return app
