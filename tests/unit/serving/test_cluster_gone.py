"""A cluster that went between two calls is away, whatever Ray raises to say so."""

from __future__ import annotations

from typing import NoReturn

import pytest

from interlock.errors import Transient
from interlock.serving import cluster

SAID = (
    "Failed to submit task to actor ActorID(d8d7720f22b1be64286d80ce01000000) due to b\"Can't find actor "
    "d8d7720f22b1be64286d80ce01000000. It might be dead or it's from a different cluster\""
)
"""What `ray._raylet.CoreWorker.submit_actor_task` raises after the head was killed, as a bare `Exception`."""


def _submit() -> NoReturn:
    raise Exception(SAID)  # noqa: TRY002 - that is what Ray raises


async def test_an_actor_of_a_cluster_that_is_gone_means_that_ray_is_away() -> None:
    """Waiting helps, so it is Transient; as anything else it would end the process as a bug."""
    with pytest.raises(Transient):
        await cluster._in_thread(_submit, seconds=5.0)
