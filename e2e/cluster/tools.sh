# Builds the programs of a cluster from the Go modules under tools/, once for each state of a module's files. Sourced.
# shellcheck shell=bash disable=SC2154

# tools_dir MODULE: the directory of the programs of tools/MODULE.
tools_dir() { echo "$cache/tools/$1-$(inputs "$here/tools/$1")"; }

# build MODULE NAME=PACKAGE...: ensures that these programs are in tools_dir MODULE. One call builds them together, so
# that shared packages are compiled once. With cgo=1, C is compiled in, too; the programs are static anyway.
build() {
    local module=$1 dir tool missing=()
    shift
    dir=$(tools_dir "$module")
    for tool in "$@"; do [ -x "$dir/${tool%%=*}" ] || missing+=("$tool"); done
    ((${#missing[@]})) || return 0
    command -v go >/dev/null 2>&1 || die "go is missing: install Go $(awk '/^go / {print $2}' "$here/tools/$module/go.mod") or later to build ${missing[*]%%=*}"
    mkdir -p "$dir"
    say "building ${missing[*]%%=*}"
    # Programs are built in a directory of this run and then moved, so that an interrupted build leaves no incomplete
    # one.
    local new
    new=$(mktemp -d "$dir/.new.XXXX")
    (
        cd "$here/tools/$module"
        CGO_ENABLED=${cgo:-0} go build -trimpath -tags netgo,osusergo -ldflags "$(ldflags)" -o "$new/" "${missing[@]#*=}"
    ) >&2 9>&- || die "go build failed in tools/$module; what it said is above"
    for tool in "${missing[@]}"; do mv "$new/$(program "${tool#*=}")" "$dir/${tool%%=*}"; done
    rmdir "$new"
}

# program PACKAGE: the name that go build gives the program: the last part of its path that is not a version.
program() {
    local name=${1##*/}
    if [[ $name =~ ^v[0-9]+$ ]]; then name=${1%/*} name=${name##*/}; fi
    echo "$name"
}

# version MODULE PATH: the version of a Go module with which tools/MODULE builds.
version() { awk -v path="$2" '$1 == path && $2 ~ /^v/ {print $2; exit}' "$here/tools/$1/go.mod"; }
# module_dir MODULE PATH: the directory of the source of that Go module, which is downloaded if need be.
module_dir() { (cd "$here/tools/$1" && go mod download "$2" >&2 && go list -m -f '{{.Dir}}' "$2"); }

# The linker sets the version of Kubernetes' programs; without it, they reject each other.
ldflags() {
    local version major minor _
    version=$(version kubernetes k8s.io/kubernetes)
    IFS=. read -r major minor _ <<<"${version#v}"
    printf -- '-s -w -extldflags -static'
    printf -- ' -X %s' \
        "k8s.io/component-base/version.gitVersion=$version" \
        "k8s.io/component-base/version.gitMajor=$major" \
        "k8s.io/component-base/version.gitMinor=$minor" \
        "k8s.io/client-go/pkg/version.gitVersion=$version"
}

build_clients() {
    build clients helm=helm.sh/helm/v3/cmd/helm kind=sigs.k8s.io/kind
    build kubernetes kubectl=k8s.io/kubernetes/cmd/kubectl
}
build_kubernetes() {
    local name tools=()
    for name in kube-apiserver kube-controller-manager kube-proxy kube-scheduler kubeadm kubectl kubelet; do
        tools+=("$name=k8s.io/kubernetes/cmd/$name")
    done
    build kubernetes "${tools[@]}" agnhost=k8s.io/kubernetes/test/images/agnhost \
        agnhost-image=./agnhost-image coredns=./coredns etcd=go.etcd.io/etcd/server/v3
}
build_network() {
    local plugins=github.com/containernetworking/plugins/plugins
    build network "bridge=$plugins/main/bridge" "host-local=$plugins/ipam/host-local" "loopback=$plugins/main/loopback" \
        "portmap=$plugins/meta/portmap" flannel-cni=./flannel-cni
    # Its udp backend is written in C.
    cgo=1 build network flanneld=github.com/flannel-io/flannel
}
