# The image of a kind node, and the images of what kubeadm runs in it. Sourced.
# shellcheck shell=bash disable=SC2154

# kubernetes_image NAME: the full name of an image that kubeadm runs, such as kube-proxy or etcd.
kubernetes_image() {
    "$(tools_dir kubernetes)/kubeadm" config images list --kubernetes-version "$(version kubernetes k8s.io/kubernetes)" 2>/dev/null |
        grep -E "/$1:" || die "kubeadm names no image $1"
}

# Makes sure that there is a node image; its name is in node_image afterwards, and node_driver is the cgroup driver that
# its containerd is set to.
node_image=
node_driver=
node_image() {
    local version inputs
    version=$(version kubernetes k8s.io/kubernetes)
    node_image=kindest/node:$version
    node_driver=systemd
    if docker image inspect "$node_image" >/dev/null 2>&1; then return; fi
    if answers "$node_image"; then
        quietly "pulling $node_image" with_uplink docker pull -q "$node_image"
        return
    fi
    inputs=$(cat <(inputs "$here/images" "$here/node-image.sh" "$here/engine/runc-limited" "$here/tools/kubernetes" "$here/tools/network") <(limited && echo limited) | sha256sum | cut -c 1-12)
    node_image=bridgewarden-e2e/node:$inputs
    node_driver=cgroupfs
    have "$node_image" "$inputs" && return
    build_network
    build_kubernetes
    netfilter
    need cc gcc
    kubernetes_images "$inputs"
    quietly "building image $node_image" build_node "$inputs"
}

# kubernetes_images INPUTS: builds those that a node carries with it.
kubernetes_images() {
    local name
    for name in kube-apiserver kube-controller-manager kube-scheduler etcd; do
        static_image "$name" "/usr/local/bin/$name" "$(kubernetes_image "$name")" "$1"
    done
    static_image coredns /coredns "$(kubernetes_image coredns)" "$1"
    quietly "building image $(kubernetes_image pause)" pause_image "$(kubernetes_image pause)" "$1"
    quietly "building image $(kubernetes_image kube-proxy)" program_image kubernetes kube-proxy /usr/local/bin/kube-proxy "$netfilter_image" "$(kubernetes_image kube-proxy)" "$1"
}
static_image() { quietly "building image $3" program_image kubernetes "$1" "$2" scratch "$3" "$4"; }

# The pause program is a page of C in Kubernetes' own source.
pause_image() {
    local context
    context=$(mktemp -d "$cache/image.XXXX")
    trap "rm -rf '$context'" EXIT
    cc -Os -static -s -o "$context/pause" "$(module_dir kubernetes k8s.io/kubernetes)/build/pause/linux/pause.c"
    tar -C "$context" -c . | docker import -c 'ENTRYPOINT ["/pause"]' -c "LABEL $label=$2" - "$1"
}

build_node() {
    local context
    context=$(mktemp -d "$cache/image.XXXX")
    trap "rm -rf '$context'" EXIT
    lay_node "$context"
    build_from node "$base_image" "$context" "$node_image-empty" "$1" \
        --build-arg "PAUSE=$(kubernetes_image pause)" --build-arg "LIMITED=$(limited && echo 1 || echo 0)"
    fill_node "$1"
    docker rmi "$node_image-empty"
}

# lay_node DIR: puts a node's files where they belong under DIR.
lay_node() {
    local dir=$1 kind name
    kind=$(module_dir clients sigs.k8s.io/kind)/images/base/files
    cp -r "$kind"/{etc,kind,usr} "$dir/"
    chmod -R u+w,go+rX "$dir"
    chmod 755 "$dir"/usr/local/bin/* "$dir"/kind/bin/*
    mkdir -p "$dir"/usr/bin "$dir/usr/local/sbin" "$dir/opt/cni/bin"
    version kubernetes k8s.io/kubernetes >"$dir/kind/version"
    cp "$here/images/node/configure" "$dir/kind/"
    cp "$here/engine/runc-limited" "$dir/usr/local/sbin/"
    for name in kubeadm kubectl kubelet; do ln "$(tools_dir kubernetes)/$name" "$dir/usr/bin/"; done
    for name in host-local loopback portmap; do ln "$(tools_dir network)/$name" "$dir/opt/cni/bin/"; done
}

# fill_node INPUTS: gives the node image kubeadm's images: its containerd takes them in, and that is the new image.
fill_node() {
    local node name images=()
    for name in kube-apiserver kube-controller-manager kube-scheduler kube-proxy etcd coredns pause; do
        images+=("$(kubernetes_image "$name")")
    done
    node=$build_container
    docker rm -f -v "$node" 2>/dev/null || true
    docker run -d --name "$node" --privileged --entrypoint /usr/bin/containerd "$node_image-empty"
    for _ in {1..100}; do
        docker exec "$node" ctr version >/dev/null 2>&1 && break
        sleep 0.1
    done
    # Not unpacked: a node unpacks what it runs, and the image is half as large.
    docker save "${images[@]}" | docker exec -i "$node" ctr -n k8s.io images import --no-unpack -
    docker stop -t 10 "$node"
    docker commit -c 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]' -c "LABEL $label=$1" "$node" "$node_image"
    docker rm -f -v "$node"
}
