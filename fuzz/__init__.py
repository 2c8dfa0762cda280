"""Targets for atheris, and what they share. See README.md in this folder."""
