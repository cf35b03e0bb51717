# Settings and functions that all commands here share: directories, and output. Sourced by each.
# shellcheck shell=bash disable=SC2034  # its variables are used by those who source it

set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Build results and downloads; may be shared by several checkouts.
cache=${BRIDGEWARDEN_E2E_CACHE:-$(dirname "$here")/.cache}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
# 1: build every image here, even if a registry has it.
build_only=${BRIDGEWARDEN_E2E_BUILD:-0}

started=$SECONDS
say() { printf '%4ds  %s\n' $((SECONDS - started)) "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# quietly WHAT CMD...: runs CMD in a subshell, and shows its output only if it fails.
quietly() {
    local what=$1 log
    shift
    log=$(mktemp)
    say "$what"
    # In the background, errexit works inside; in a condition it would not.
    "$@" >"$log" 2>&1 9>&- &
    if ! wait $!; then
        tail -n 60 "$log" >&2
        rm -f "$log"
        die "$what: $1 failed; its last lines are above"
    fi
    rm -f "$log"
}

# need PROGRAM PACKAGE: installs the Debian package if the program is missing.
need() {
    command -v "$1" >/dev/null 2>&1 && return
    [ "$(id -u)" = 0 ] || die "$1 is missing: install it (Debian's package is $2), or run as root"
    command -v apt-get >/dev/null 2>&1 || die "$1 is missing, and there is no apt-get to install it with"
    quietly "installing Debian's $2" install_package "$2"
}
install_package() {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1"
}

# inputs FILE...: twelve digits that change if the content of a file does.
inputs() { find "$@" -type f -print0 | sort -z | xargs -0 cat | sha256sum | cut -c 1-12; }

# The container in which a node's image is filled.
build_container=bridgewarden-e2e-build

# The files of one cluster.
cluster_name() {
    [[ $1 =~ ^[a-z0-9]([a-z0-9-]{0,29}[a-z0-9])?$ ]] || die "'$1' can't name a cluster: use up to 31 of a-z, 0-9 and -"
    cluster=bridgewarden-$1
    cluster_dir=$cache/clusters/$1
}
