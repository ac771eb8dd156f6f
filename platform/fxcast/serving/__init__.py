"""Ray Serve deployments and their HTTP API."""
