"""Quix Streams, exactly once: a dataframe that scores row by row and commits each tenth of a second.

Quix hands over one message at a time; its windows and its batching sinks collect by key or outside the transaction,
so a batch for the model cannot be had under its exactly-once guarantee. What a competent user turns, and why:
`commit_interval` 0.1 (its default of 5 s would hide results for 5 s), the broker's retry pause (librdkafka waits
100 ms while the markers of the last transaction are written), raw bytes in and out with fastavro inside (its own Avro
deserializer asks a registry and does the same), log level WARNING. Topics are there already, no state is kept.
"""

from __future__ import annotations

import tempfile

from quixstreams import Application  # type: ignore[import-not-found]  # not in our environment

from tests.bench.peers.work import Assignment, encode, ready

COMMIT_SECONDS = 0.1


def main() -> None:
    """Run until SIGTERM, which Quix answers itself."""
    assignment = Assignment.read()
    work = assignment.work()

    def score(value: bytes) -> bytes:
        request = work.decode(value)
        return encode(request["request_id"], work.score([work.row(request)])[0])

    with tempfile.TemporaryDirectory() as folder:
        application = Application(
            broker_address=assignment.bootstrap,
            consumer_group=assignment.group,
            auto_offset_reset="earliest",
            processing_guarantee="exactly-once",
            commit_interval=COMMIT_SECONDS,
            auto_create_topics=False,
            use_changelog_topics=False,
            state_dir=folder,
            loglevel="WARNING",
            consumer_poll_timeout=0.05,
            consumer_extra_config={"fetch.wait.max.ms": 10},
            producer_extra_config={"retry.backoff.ms": 5, "linger.ms": 5},
        )
        requests = application.topic(assignment.requests, key_deserializer="bytes", value_deserializer="bytes")
        results = application.topic(assignment.results, key_serializer="bytes", value_serializer="bytes")
        application.dataframe(requests).apply(score).to_topic(results)
        ready()
        application.run()


if __name__ == "__main__":
    main()
