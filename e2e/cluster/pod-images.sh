# The images of a test cluster's pods: flannel's, and agnhost, which Kubernetes' own network tests use as a peer.
# Sourced.
# shellcheck shell=bash disable=SC2154

flannel_manifest() { cat "$(module_dir network github.com/flannel-io/flannel)/Documentation/kube-flannel.yml"; }
# flannel_image NAME: the full name of an image in flannel's manifest.
flannel_image() { flannel_manifest | awk -v name="/$1:" '$1 == "image:" && index($2, name) {print $2; exit}'; }

# Ensures that they are in the engine. Sets pod_images to their names.
pod_images=()
pod_images() {
    local flanneld plugin agnhost network kubernetes
    network=$(inputs "$here/images" "$here/tools/network")
    kubernetes=$(inputs "$here/images" "$here/tools/kubernetes")
    flanneld=$(flannel_image flannel)
    plugin=$(flannel_image flannel-cni-plugin)
    build kubernetes agnhost-image=./agnhost-image
    agnhost=$("$(tools_dir kubernetes)/agnhost-image")
    pod_images=("$flanneld" "$plugin" "$agnhost")
    image "$plugin" "$network" build_pod_image network flannel-cni /flannel
    image "$flanneld" "$network" build_pod_image network flanneld /opt/bin/flanneld
    image "$agnhost" "$kubernetes" build_pod_image kubernetes agnhost /agnhost
}

# build_pod_image MODULE PROGRAM PATH IMAGE INPUTS
build_pod_image() {
    if [ "$1" = network ]; then build_network; else build_kubernetes; fi
    netfilter
    program_image "$1" "$2" "$3" "$netfilter_image" "$4" "$5"
}
