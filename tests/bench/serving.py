"""Versions of the bench's model as Ray Serve replicas, deployed as the deployer does it, and the route to them.

`python -m tests.bench.serving VERSIONS` deploys that many versions on the cluster of its environment
(INTERLOCK_RAY_ADDRESS, INTERLOCK_BLOB_FOLDER), has each score a few rows, and prints the arms of a route as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from interlock.blobs import Blobs
from interlock.ids import application_name, version_digest
from interlock.manifest import Manifest
from interlock_router.model import WEIGHTS
from tests.bench import work

MODEL: Final = "bench"
UP_SECONDS_MAX: Final = 240.0
LOOK_SECONDS: Final = 0.2
CALL_SECONDS_MAX: Final = 10.0
PROOF_ROWS: Final = 64


def manifest(version: int) -> str:
    """Return the manifest of a version; the versions differ in their number alone."""
    inputs = "\n".join(f'[[inputs]]\nname = "{each.name}"\ntype = "double"\n' for each in work.SIGNATURE.inputs)
    text = (
        f'[model]\nname = "{MODEL}"\nversion = {version}\nowner = "bench"\n\n'
        f'[artifact]\npath = "model.onnx"\nformat = "onnx"\n\n{inputs}\n'
        f'[[outputs]]\nname = "score"\ntype = "double"\nminimum = 0.0\nmaximum = 1.0\n\n'
        f'[vectors]\npath = "vectors.json"\n'
    )
    Manifest.parse(text)
    return text


async def deploy(address: str, blob_folder: Path, versions: int) -> list[dict[str, Any]]:
    """Deploy versions 1 to `versions`, wait until they run, prove each; return the arms that share the keys."""
    from interlock.serving import cluster, replica

    blobs, control = Blobs(blob_folder), cluster.ServeControl(address)
    artifact_digest = blobs.put(work.model())
    arms: list[dict[str, Any]] = []
    for version in range(1, versions + 1):
        described = manifest(version).encode()
        digest = version_digest(described, work.model())
        name = application_name(MODEL, version, digest)
        weight = WEIGHTS // versions + (WEIGHTS % versions if version == 1 else 0)
        arms.append(
            {
                "arm": f"arm{version}",
                "model": MODEL,
                "version": version,
                "digest": digest,
                "application": name,
                "weight": weight,
                "signature": work.SIGNATURE.to_json(),
            }
        )
        application = replica.application(
            MODEL,
            version,
            digest,
            manifest_digest=blobs.put(described),
            artifact_digest=artifact_digest,
            blob_folder=blob_folder,
        )
        await control.deploy(application, name)
    await _running(control, [arm["application"] for arm in arms])
    handles = cluster.Handles(address)
    for arm in arms:
        digest, outputs = await handles.call(arm["application"], work.rows()[:PROOF_ROWS], CALL_SECONDS_MAX)
        assert digest == arm["digest"], f"{arm['application']} is {digest}"
        assert np.allclose(outputs[:, 0], work.expected()[:PROOF_ROWS], atol=1e-6), "other scores than the model's"
    await cluster.disconnect()
    return arms


async def _running(control: Any, names: list[str]) -> None:
    deadline = time.monotonic() + UP_SECONDS_MAX
    while True:
        states = await control.status()
        if all(name in states and states[name].running for name in names):
            return
        assert time.monotonic() < deadline, f"not up: {states}"
        await asyncio.sleep(LOOK_SECONDS)


def deployed(environment: Mapping[str, str], versions: int) -> list[dict[str, Any]]:
    """Deploy in a process of its own, so that this one never joins the cluster; return the arms."""
    command = [sys.executable, "-m", "tests.bench.serving", str(versions)]
    done = subprocess.run(
        command, env=os.environ | dict(environment), stdout=subprocess.PIPE, check=True, timeout=2 * UP_SECONDS_MAX
    )
    arms: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return arms


def main() -> int:
    """Deploy, and print the arms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", type=int)
    given = parser.parse_args()
    folder = Path(os.environ["INTERLOCK_BLOB_FOLDER"])
    arms = asyncio.run(deploy(os.environ["INTERLOCK_RAY_ADDRESS"], folder, given.versions))
    sys.stdout.write(json.dumps(arms) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
