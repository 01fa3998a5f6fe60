# The service in one image, with a PostgreSQL of its own in the volume unless it is given another. Build and start it:
#   docker build -t debt-mgmt .
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges -v debt-mgmt:/var/lib/debt-mgmt debt-mgmt
# With PostgreSQL, Prometheus and Grafana beside it: docker compose -f deploy/compose.yaml up
FROM python:3.12-slim AS build
WORKDIR /source
COPY . .
RUN python -m venv /opt/debt-mgmt && /opt/debt-mgmt/bin/pip install --no-cache-dir '.[server]'

FROM python:3.12-slim
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/debt-mgmt --create-home --shell /usr/sbin/nologin debt-mgmt
COPY --from=build /opt/debt-mgmt /opt/debt-mgmt
# Nothing but the volume and /tmp is written to, so the rest of the file system may be read-only.
ENV PATH=/opt/debt-mgmt/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DEBT_MGMT_DB_DATA_DIRECTORY=/var/lib/debt-mgmt/data \
    DEBT_MGMT_SERVER_ADMIN_TOKEN_FILE=/var/lib/debt-mgmt/admin.token
USER 10001:10001
VOLUME /var/lib/debt-mgmt
EXPOSE 50051 9090
STOPSIGNAL SIGTERM
# Over gRPC, and without a token.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-m", "debt_mgmt.server.healthcheck"]
# Without more the service listens inside the container only: an address that others reach needs server.tls.* and
# server.auth, or, where the network is yours alone, server.insecure.
ENTRYPOINT ["debt-mgmt"]
CMD ["serve"]
