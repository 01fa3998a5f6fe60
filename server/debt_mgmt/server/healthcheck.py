"""`python -m debt_mgmt.server.healthcheck`: ends with 0 where the service says over gRPC that it serves.

For containers; it needs no token. The service is looked for at DEBT_MGMT_TARGET, and encrypted where DEBT_MGMT_TLS_CA
names who vouches for it. Words on the command line are entries of the health service, as debt_mgmt.protecting.
"""

import os
import sys
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from debt_mgmt.client.channel import CA_VARIABLE, CERTIFICATE_VARIABLE, DEFAULT_TARGET, KEY_VARIABLE, TARGET_VARIABLE

TIMEOUT_SECONDS = 4.0


def credentials() -> grpc.ChannelCredentials | None:
    """As clients use them; None where calls are not encrypted."""
    authority, certificate, key = (content(name) for name in (CA_VARIABLE, CERTIFICATE_VARIABLE, KEY_VARIABLE))
    return None if authority is None else grpc.ssl_channel_credentials(authority, key, certificate)


def content(variable: str) -> bytes | None:
    """The file that an environment variable names."""
    path = os.environ.get(variable)
    return Path(path).read_bytes() if path else None


def problem(target: str, names: list[str]) -> str:
    """What is not as it should be; empty where all is well."""
    try:
        secure = credentials()
        channel = grpc.insecure_channel(target) if secure is None else grpc.secure_channel(target, secure)
        with channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            for name in names:
                status = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=TIMEOUT_SECONDS).status
                if status != health_pb2.HealthCheckResponse.SERVING:
                    return f"{name or 'the service'} is {health_pb2.HealthCheckResponse.ServingStatus.Name(status)}"
    except grpc.RpcError as error:
        return f"no answer from {target}: {error.code().name}"
    except OSError as error:
        return str(error)
    return ""


def main() -> int:
    found = problem(os.environ.get(TARGET_VARIABLE) or DEFAULT_TARGET, sys.argv[1:] or [""])
    if found:
        sys.stderr.write(found + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
