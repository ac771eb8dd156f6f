"""What `make release` does: audit, build, bill of materials, checksums."""
