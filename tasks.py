"""The front door: `inv --list` shows what can be done here."""

from deploy.tasks import ns

__all__ = ["ns"]
