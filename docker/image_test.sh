#!/usr/bin/env bash
# Build the cpu image on a base made here, without a container engine or a registry, and use it: `make image-test`.
# Needs root, and Debian's buildah and mmdebstrap. Everything is written below .build/image.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$PWD/.build/image
mkdir -p "$work"
bud() { buildah --root "$work/storage" --runroot "$work/run" --storage-driver overlay "$@"; }

if [ ! -e "$work/base.tar" ]; then
    mmdebstrap --quiet --variant=minbase --include=python3.11,python3.11-venv,python3-venv,ca-certificates bookworm "$work/base.tar"
fi

# The base has what this machine needs to reach a package index; the project's Dockerfile names none of it.
container=$(bud from scratch)
bud add --quiet "$container" "$work/base.tar" / >/dev/null
bud copy --quiet "$container" /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt >/dev/null
bud config --env SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt --env PIP_CERT=/etc/ssl/certs/ca-certificates.crt "$container"
bud commit --quiet --rm "$container" localhost/masters-base >/dev/null

bud bud --quiet --format docker --isolation chroot --network host --build-arg BASE=localhost/masters-base --target cpu \
    --tag localhost/masters:cpu --file docker/Dockerfile . >/dev/null

container=$(bud from --pull-never localhost/masters:cpu)
trap 'bud rm "$container" >/dev/null' EXIT
in_image() { bud run --isolation chroot --workingdir /opt/masters "$container" -- "$@"; }
in_image sh -c 'test "$(id -u)" = 1000 && test -x /bin/bash && test -w "$HOME" && ! command -v g++ gcc cc'
in_image masters check recipes/tiny.yaml
in_image masters mask recipes/tiny.yaml --set storage=/tmp/runs
in_image ray --version
echo "image    localhost/masters:cpu, $(du -sm "$work/storage" | cut -f1) MB of layers on disk"
