#!/bin/sh
# Makes an OCI image layout directory with one image of one layer.
#
# usage: rootfs/oci-layout.sh LAYER.tar NAME OUTDIR <CONFIG
# NAME is the image's full name, such as localhost/busybox:latest. CONFIG is the image's configuration (OCI image
# specification, config.md) with the word DIFF_ID where the layer's digest belongs. LAYER.tar is gone afterwards.
# The same input gives the same bytes. Needs a shell, coreutils and gzip.
set -eu
export LC_ALL=C

[ $# -eq 3 ] || { echo "usage: oci-layout.sh LAYER.tar NAME OUTDIR <CONFIG" >&2; exit 2; }
layer_tar=$1
name=$2
out=${3%/}

mkdir -p "$(dirname "$out")"
work=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
layout=$work/layout
mkdir -p "$layout/blobs/sha256"

# blob FILE: puts FILE among the blobs, prints its descriptor's "digest" and "size".
blob() {
    digest=$(sha256sum "$1" | cut -d' ' -f1)
    size=$(stat -c %s "$1")
    mv "$1" "$layout/blobs/sha256/$digest"
    printf '"digest":"sha256:%s","size":%s' "$digest" "$size"
}

diff_id=$(sha256sum "$layer_tar" | cut -d' ' -f1)
gzip --no-name <"$layer_tar" >"$work/layer"
rm "$layer_tar"
layer=$(blob "$work/layer")

sed "s/DIFF_ID/sha256:$diff_id/" >"$work/config"
config=$(blob "$work/config")

cat >"$work/manifest" <<END
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json",$config},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip",$layer}]}
END
manifest=$(blob "$work/manifest")

cat >"$layout/index.json" <<END
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",$manifest,"platform":{"architecture":"amd64","os":"linux"},"annotations":{"org.opencontainers.image.ref.name":"$name"}}]}
END
printf '{"imageLayoutVersion":"1.0.0"}\n' >"$layout/oci-layout"

rm -rf "$out"
mv "$layout" "$out"
