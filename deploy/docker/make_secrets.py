"""Makes the secrets that docker-compose.yml hands to its services, each in a file of its own; those there are stay.

`python deploy/docker/make_secrets.py [FOLDER]`, with Interlock installed; FOLDER is deploy/docker/secrets otherwise.
"""

from __future__ import annotations

import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path

from interlock.auth import generate_keys, issue

WITH_TABLES = ("registry", "builder", "deployer", "monitor", "auditor")
SERVICES = (*WITH_TABLES, "router", "witness")
WITH_SCHEMAS = ("deployer", "router")
TOKEN_DAYS = 365
PASSWORD_BYTES = 24


class Folder:
    """The secrets' folder: nobody else may look into it, while a container's user can read the file it is given."""

    def __init__(self, place: Path) -> None:
        self._place = place
        place.mkdir(mode=0o700, parents=True, exist_ok=True)

    def keep(self, name: str, content: str) -> str:
        """Write a secret, unless there is one; return what stands there."""
        file = self._place / name
        if not file.exists():
            file.write_text(content)
            file.chmod(0o444)
        return file.read_text()

    def password(self, name: str) -> str:
        """Return a password that is safe within a URL."""
        return self.keep(name, secrets.token_urlsafe(PASSWORD_BYTES))

    def pair(self, name: str) -> tuple[str, str]:
        """Return an Ed25519 pair of PEM texts, private and public."""
        private, public = (pem.decode() for pem in generate_keys())
        return self.keep(f"{name}_private.pem", private), self.keep(f"{name}_public.pem", public)


def make(place: Path) -> None:
    """Make what is missing."""
    folder = Folder(place)
    signing, _ = folder.pair("token")
    folder.pair("audit")
    folder.pair("witness")
    for name in ("ray_token", "grafana_password"):
        folder.password(name)
    owner = folder.password("postgres_password")
    folder.keep("postgres_owner_dsn", f"postgresql://interlock:{owner}@postgres:5432/interlock")
    folder.keep("redis_url", f"redis://:{folder.password('valkey_password')}@valkey:6379/0")
    for name in SERVICES:
        token = folder.keep(
            f"{name}_token", issue(signing.encode(), name, ("service",), TOKEN_DAYS * 86_400, datetime.now(UTC))
        )
        if name in WITH_SCHEMAS:
            folder.keep(f"{name}_schema_registry_url", f"http://{name}:{token}@registry:8080/schema-registry")
        if name in WITH_TABLES:
            password = folder.password(f"{name}_postgres_password")
            folder.keep(f"{name}_postgres_dsn", f"postgresql://interlock_{name}:{password}@postgres:5432/interlock")


def main() -> int:
    """Make them and say where."""
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("secrets")
    make(place)
    sys.stdout.write(f"The secrets lie in {place}. Keep token_private.pem apart: whoever has it can be anybody.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
