"""The contract over HTTP: JSON for curl, scripts and browsers, through the same guard and handlers as gRPC."""
