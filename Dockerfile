# The service on Debian 12 with Debian's Python 3.11, and the client's command beside it. docs/deployment.md tells how to run
# it; `make image-test` builds and runs it.
#
# Behind a proxy or with a package index of your own: pass pip's configuration as the secret `pip.conf` and the authorities
# that sign its certificate as `ca-certificates`. Secrets are there while a step runs, and in no layer.

FROM debian:bookworm-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends binutils python3-venv
WORKDIR /src

# what makes a wheel, in an environment that stays behind
COPY requirements/build.txt requirements/
RUN python3 -m venv /build
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca-certificates \
    /build/bin/pip install --quiet --no-cache-dir --disable-pip-version-check --no-compile \
    --require-hashes --requirement requirements/build.txt

# what the service needs, traces, PostgreSQL and S3 too; STABILISE=1 adds OpenCV for video stabilisation, RAY=1 what nodes of a
# Ray cluster need
ARG STABILISE=
ARG RAY=
COPY requirements/service.txt requirements/service-stabilise.txt requirements/service-ray.txt requirements/
RUN python3 -m venv --without-pip /opt/videoprocess
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca-certificates \
    /build/bin/pip --python /opt/videoprocess/bin/python install --quiet --no-cache-dir --disable-pip-version-check \
    --no-compile --require-hashes --requirement "requirements/service${STABILISE:+-stabilise}.txt" \
    ${RAY:+--requirement requirements/service-ray.txt}

COPY LICENSE README.md hatch_build.py pyproject.toml ./
COPY proto proto
COPY server server
COPY client client
RUN /build/bin/pip wheel --quiet --no-deps --no-build-isolation --no-cache-dir --disable-pip-version-check \
    --wheel-dir /wheel . \
    && /build/bin/pip --python /opt/videoprocess/bin/python install --quiet --no-deps --no-index \
    --disable-pip-version-check /wheel/*.whl

# what no service reads: libraries' own tests (18 MB), what compilers and type checkers want (8 MB), symbols of modules for
# debuggers (25 MB). Libraries that a wheel brings along break when they are stripped; whether these load is tried.
# Of the libraries' modules those that a service imports get bytecode (10 MB of 23).
RUN find /opt/videoprocess -depth \( -type d \( -name tests -o -path '*/numpy/distutils' -o -path '*/numpy/f2py' \) \
    -o -name '*.py[ix]' -o -name '*.pxd' -o -name '*.h' -o -name '*.a' \) -exec rm -rf {} + \
    && cd /opt/videoprocess/lib/python3*/site-packages \
    && find av cryptography obstore -name '*.so' -exec strip --strip-unneeded {} + \
    && find "$PWD/av" "$PWD/cryptography" "$PWD/obstore" -name '*.so' -print0 | xargs -0 /opt/videoprocess/bin/python \
    -c 'import ctypes, sys; [ctypes.CDLL(path) for path in sys.argv[1:]]' \
    && /opt/videoprocess/bin/python -c 'import av, numpy, obstore.store, videoprocess_client.cli, videoprocess_server.cli, \
    videoprocess_server.app, videoprocess_server.store.postgres' \
    && /opt/videoprocess/bin/videoprocess-server --help > /dev/null


FROM debian:bookworm-slim
# tini hands signals on from the first instant and reaps what workers leave; tzdata knows the zone of quiet hours
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 tini tzdata \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/* \
    /usr/share/doc/* /usr/share/man/* \
    && groupadd --gid 65532 videoprocess \
    && useradd --uid 65532 --gid 65532 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin videoprocess \
    && install --directory --owner=65532 --group=65532 --mode=0750 /var/lib/videoprocess
COPY --from=build /opt/videoprocess /opt/videoprocess

ENV PATH=/opt/videoprocess/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    VIDEOPROCESS_DATA_DIR=/var/lib/videoprocess/data \
    VIDEOPROCESS_LISTEN=0.0.0.0:50051 \
    VIDEOPROCESS_HEALTH_LISTEN=0.0.0.0:50052
# calls; health checks; metrics, where they are switched on
EXPOSE 50051 50052 9464
VOLUME /var/lib/videoprocess
# a number: what runs containers can tell from it that it is not root
USER 65532:65532
WORKDIR /tmp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["videoprocess-server", "health"]
ENTRYPOINT ["tini", "--", "videoprocess-server"]
# without a certificate and tokens it ends here, with a line that says so: see docs/deployment.md
CMD ["serve"]

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="videoprocess" \
    org.opencontainers.image.description="A gRPC service for deferred video enhancement: resumable and exact" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
