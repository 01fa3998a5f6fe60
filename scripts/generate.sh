#!/bin/sh
# Generates client/debt_mgmt/v1 from the protos: the only way in which that code is made.
# usage: [PYTHON=python] scripts/generate.sh [output directory, default client]
set -eu
cd "$(dirname "$0")/.."
export LC_ALL=C
python=${PYTHON:-python}
output=${1:-client}
PATH="$("$python" -c 'import sysconfig; print(sysconfig.get_path("scripts"))'):$PATH"

mkdir -p "$output/debt_mgmt/v1"
rm -f "$output"/debt_mgmt/v1/*_pb2.py "$output"/debt_mgmt/v1/*_pb2.pyi \
      "$output"/debt_mgmt/v1/*_pb2_grpc.py "$output"/debt_mgmt/v1/*_pb2_grpc.pyi
# The rejections and types have no service, so only the service files get *_pb2_grpc modules.
"$python" -m grpc_tools.protoc --proto_path=proto --python_out="$output" --mypy_out=quiet:"$output" \
    proto/debt_mgmt/v1/*.proto
"$python" -m grpc_tools.protoc --proto_path=proto --grpc_python_out="$output" --mypy_grpc_out=quiet:"$output" \
    proto/debt_mgmt/v1/*_service.proto
