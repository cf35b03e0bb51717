# Ensures that an image is in the engine: pulls it if a registry answers, otherwise builds it from Debian's packages and
# the programs that tools.sh built. Sourced.
# shellcheck shell=bash disable=SC2154

debian=bookworm
label=bridgewarden.inputs

# have IMAGE INPUTS: whether the engine has it. An image that was built must have been built from these inputs.
have() {
    local found
    found=$(docker image inspect --format "{{index .Config.Labels \"$label\"}}" "$1" 2>/dev/null) || return 1
    [ -z "$found" ] || [ "$found" = "$2" ]
}

# answers IMAGE: whether a registry has it. A registry that does not answer is not queried again.
registry=
answers() {
    [ "$build_only" = 0 ] && [ "$registry" != silent ] || return 1
    local said
    if said=$(timeout 20 docker manifest inspect "$1" 2>&1); then return; fi
    case $said in
    *'no such manifest'* | *'manifest unknown'*) say "no registry has $1" ;;
    *) registry=silent; say "no image registry answers: images are built here" ;;
    esac
    return 1
}

# image IMAGE INPUTS CMD...: ensures that IMAGE is in the engine. CMD builds it if it can't be pulled.
image() {
    local image=$1 inputs=$2
    shift 2
    have "$image" "$inputs" && return
    if answers "$image"; then
        quietly "pulling $image" with_uplink docker pull -q "$image"
    else
        quietly "building image $image" "$@" "$image" "$inputs"
    fi
}

# Debian's image, on which others are based; sets base_image to its name.
base_image=
base() {
    [ -z "$base_image" ] || return 0
    base_image=debian:$debian-slim
    if docker image inspect "$base_image" >/dev/null 2>&1; then return; fi
    if answers "$base_image"; then
        quietly "pulling $base_image" with_uplink docker pull -q "$base_image"
        return
    fi
    base_image=bridgewarden-e2e/debian:$debian-slim
    if docker image inspect "$base_image" >/dev/null 2>&1; then return; fi
    need debootstrap debootstrap
    quietly "building image $base_image" bootstrap "$base_image"
}
bootstrap() {
    local root
    root=$(mktemp -d "$cache/debian.XXXX")
    trap "rm -rf '$root'" EXIT
    debootstrap --variant=minbase "$debian" "$root"
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}
    tar -C "$root" --one-file-system -c . | docker import -c 'CMD ["bash"]' - "$1"
}

# build_from DIR BASE CONTEXT IMAGE INPUTS [ARG...]: docker build of images/DIR on a base image, with the content of
# CONTEXT.
build_from() {
    with_uplink docker build --network host --label "$label=$5" --build-arg "BASE=$2" "${@:6}" -t "$4" -f "$here/images/$1/Dockerfile" "$3"
}

# netfilter: Debian with the programs for the kernel's packet filters; sets netfilter_image to its name.
netfilter() {
    base
    netfilter_image=bridgewarden-e2e/netfilter:$(inputs "$here/images/netfilter")
    have "$netfilter_image" "${netfilter_image#*:}" ||
        quietly "building image $netfilter_image" build_from netfilter "$base_image" "$here/images/netfilter" "$netfilter_image" "${netfilter_image#*:}"
}

# program_image MODULE TOOL PATH BASE IMAGE INPUTS: an image with BASE and one program at PATH.
program_image() {
    local context
    context=$(mktemp -d "$cache/image.XXXX")
    trap "rm -rf '$context'" EXIT
    mkdir -p "$context/$(dirname "$3")"
    ln "$(tools_dir "$1")/$2" "$context/$3"
    docker build -t "$5" --label "$label=$6" -f - "$context" <<EOF
FROM $4
COPY . /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENTRYPOINT ["$3"]
EOF
}
