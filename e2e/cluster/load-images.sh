# Copies images from the engine to a cluster's nodes. Sourced.
# shellcheck shell=bash disable=SC2154

# load_images IMAGE...
load_images() { in_engine "$(tools_dir clients)/kind" load docker-image --name "$cluster" "$@"; }
