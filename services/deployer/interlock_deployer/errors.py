"""Why a version did not get into live traffic: the codes that stand in DeployFailed events."""

from __future__ import annotations

from interlock.errors import Code

ORDER_NOT_APPROVED = Code(
    "ORDER_NOT_APPROVED",
    409,
    "The order names a digest that was not approved for the endpoint",
    "Approve the version for this endpoint and order again.",
)
DEPLOY_FAILED = Code(
    "DEPLOY_FAILED",
    502,
    "Ray Serve could not start the version's application",
    "The deployer tries again by itself; `interlock logs deployer` and Ray's own log say more.",
)
DEPLOY_TIMEOUT = Code(
    "DEPLOY_TIMEOUT",
    504,
    "The version's application was not running in time",
    "Ray may lack the CPUs, GPUs or memory that the manifest asks for; the deployer tries again by itself.",
)
WARMING_FAILED = Code(
    "WARMING_FAILED",
    502,
    "The version did not answer its self-test vectors",
    "The deployer tries again by itself; `interlock logs deployer` says more.",
)
DIGEST_DIFFERS = Code(
    "DIGEST_DIFFERS",
    409,
    "The replica loaded other bytes than were approved",
    "Check the blob store: the content no longer matches its address.",
)
SCHEMA_REFUSED = Code(
    "SCHEMA_REFUSED",
    409,
    "The schema registry refused the version's request or result schema",
    "Columns may be added as nullable; anything else needs an endpoint of its own.",
)
