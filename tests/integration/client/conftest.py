from tests.integration.client.journey import small

__all__ = ["small"]
