"""Greenroom: blue-green deploys of docker compose apps to many hosts over SSH."""

__version__ = "0.1.0"
