"""What the journals and the topics say, read without the auditor."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Mapping
from typing import Any

import asyncpg
import fastavro
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from interlock.client.session import Interlock
from interlock.codec.framing import frame, unframe

_JOURNAL = """
SELECT type, event FROM registry.journal
WHERE event->>'model' = $1 AND coalesce(event->>'endpoint', $1) = $1
UNION ALL SELECT type, event FROM deployer.journal WHERE event->>'endpoint' = $1
"""


async def journal_of(stack: Mapping[str, str], name: str) -> dict[str, dict[str, Any]]:
    """Return the newest journalled event of each kind about a model and the endpoint of the same name."""
    connection = await asyncpg.connect(stack["INTERLOCK_POSTGRES_OWNER_DSN"])
    try:
        found = await connection.fetch(_JOURNAL, name)
    finally:
        await connection.close()
    named = {"".join(word.capitalize() for word in kind.split(".")[-2].split("_")): event for kind, event in found}
    return {kind: json.loads(event) for kind, event in named.items()}


async def results_of(il: Interlock, endpoint: str, count: int, seconds_max: float) -> list[Any]:
    """Return an endpoint's last `count` answers, read from its topic once they are all there."""
    consumer = await il.consumer(f"{endpoint}.results")
    details = await il.endpoint_details(endpoint)
    il.reader.learn(details["result_schema_id"], details["result_schema"])
    await consumer.seek({})
    requests = await il.consumer(f"{endpoint}.requests")
    wanted = {(partition, offset) for partition, end in (await requests.ends()).items() for offset in range(end)}
    found: dict[tuple[int, int], Any] = {}
    async with asyncio.timeout(seconds_max):
        async for records in consumer.batches():
            for record in records:
                schema_id, body = unframe(record.value)
                result = il.reader.read(schema_id, body, record.key, record.timestamp)
                found[result.partition, result.offset] = result
            if len(found) >= len(wanted):
                break
    answered = [each for each in found.values() if not each.rejected]
    return sorted(answered, key=lambda each: (each.scored_at, each.partition, each.offset))[-count:]


async def requests_of(il: Interlock, endpoint: str, seconds_max: float) -> dict[tuple[int, int], dict[str, Any]]:
    """Return the requests of an endpoint that can be read, by partition and offset."""
    details = await il.endpoint_details(endpoint)
    schema = fastavro.parse_schema(details["request_schema"])
    consumer = await il.consumer(f"{endpoint}.requests")
    await consumer.seek({})
    found: dict[tuple[int, int], dict[str, Any]] = {}
    left = {partition: end for partition, end in (await consumer.ends()).items() if end}
    async with asyncio.timeout(seconds_max):
        async for records in consumer.batches():
            for record in records:
                if record.value and record.value[:5] == frame(details["request_schema_id"], b""):
                    read: Any = fastavro.schemaless_reader(io.BytesIO(record.value[5:]), schema, None)
                    found[record.partition, record.offset] = read
                if record.offset + 1 >= left.get(record.partition, 0):
                    left.pop(record.partition, None)
            if not left:
                break
    return found


async def since_beginning(stack: Mapping[str, str], topic: str, offset: int | None) -> None:
    """Delete a topic's records before `offset` of partition 0, or all there are."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stack["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"])
    await admin.start()
    try:
        place = TopicPartition(topic, 0)
        before = -1 if offset is None else offset
        await admin.delete_records({place: RecordsToDelete(before_offset=before)})
    finally:
        await admin.close()
