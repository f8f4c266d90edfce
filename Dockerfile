# Builds three images:
#
#   docker build --target client .   the command line and the Python client, without torch
#   docker build --target cpu .      a server whose engines run on the CPU
#   docker build --target gpu .      a server, or a Ray worker, with vLLM on CUDA
#
# All are based on Debian's slim Python, in the release that the tests run with. The CUDA libraries come with the wheels of
# torch and vLLM, so the GPU image needs no CUDA base image; the host needs the driver and NVIDIA's container toolkit.
# Base images are pinned by exact tag. To pin one by its digest too, append what this prints:
#   docker buildx imagetools inspect python:3.11.14-slim-bookworm --format '{{.Manifest.Digest}}'
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE} AS builder
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 VIRTUAL_ENV=/opt/ampsweep
RUN pip install --no-cache-dir uv==0.13.9 && uv venv /opt/ampsweep
WORKDIR /src

FROM builder AS client-builder
COPY deploy/locks/client.txt deploy/locks/client.txt
RUN uv pip install --no-deps -r deploy/locks/client.txt
COPY . .
RUN uv pip install --no-deps .

FROM builder AS cpu-builder
# A plain index has torch as a CUDA build.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY deploy/locks/cpu.txt deploy/locks/cpu.txt
RUN uv pip install --no-deps --index-url "$TORCH_INDEX" "$(grep '^torch==' deploy/locks/cpu.txt)+cpu"
RUN uv pip install --no-deps -r deploy/locks/cpu.txt
COPY . .
RUN uv pip install --no-deps .

FROM builder AS gpu-builder
COPY deploy/locks/gpu.txt deploy/locks/gpu.txt
RUN uv pip install --no-deps -r deploy/locks/gpu.txt
COPY . .
RUN uv pip install --no-deps .

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE} AS base
ENV PATH=/opt/ampsweep/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin ampsweep
USER 10001:10001
WORKDIR /home/ampsweep
ENTRYPOINT ["ampsweep"]

FROM base AS client
COPY --from=client-builder /opt/ampsweep /opt/ampsweep
HEALTHCHECK NONE
CMD ["--help"]

FROM base AS server
# hadolint ignore=DL3002
USER 0:0
# The engines compile small kernels when they start: vLLM's on a CPU, Triton's launchers on a GPU. Debian's archive keeps
# only the newest build of a package, so a pinned version would soon be unavailable.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ libnuma1 tini \
 && rm -rf /var/lib/apt/lists/* \
 && install --directory --owner=10001 --group=10001 /var/lib/ampsweep /var/lib/ampsweep-published
USER 10001:10001
ENV AMPSWEEP_HOME=/var/lib/ampsweep AMPSWEEP_HOST=0.0.0.0 AMPSWEEP_PORT=8700 \
    AMPSWEEP_LOG_FORMAT=json HF_HUB_OFFLINE=1 RAY_USAGE_STATS_ENABLED=0 VLLM_NO_USAGE_STATS=1
VOLUME /var/lib/ampsweep
EXPOSE 8700
HEALTHCHECK --interval=15s --timeout=5s --start-period=5m --retries=4 \
  CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['AMPSWEEP_PORT'] + '/healthz', timeout=4)"]
# Ray and vLLM leave orphaned processes, which tini reaps.
ENTRYPOINT ["tini", "--", "ampsweep"]
CMD ["serve"]

FROM server AS cpu
COPY --from=cpu-builder /opt/ampsweep /opt/ampsweep

FROM server AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=gpu-builder /opt/ampsweep /opt/ampsweep
