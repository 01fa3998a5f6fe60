# The service with its own PostgreSQL in one image. Build it with: docker build -t debt-mgmt .
FROM python:3.12-slim AS build
WORKDIR /source
COPY . .
RUN python -m venv /opt/debt-mgmt && /opt/debt-mgmt/bin/pip install --no-cache-dir '.[server]'

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/debt-mgmt --create-home debt-mgmt
COPY --from=build /opt/debt-mgmt /opt/debt-mgmt
ENV PATH=/opt/debt-mgmt/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DEBT_MGMT_DB_DATA_DIRECTORY=/var/lib/debt-mgmt/data
USER debt-mgmt
VOLUME /var/lib/debt-mgmt
EXPOSE 50051 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s CMD ["debt-mgmt", "status"]
# Calls are neither encrypted nor authenticated, so the service listens inside the container only. Where the network is
# yours alone, append: --insecure --address 0.0.0.0:50051
ENTRYPOINT ["debt-mgmt"]
CMD ["serve"]
