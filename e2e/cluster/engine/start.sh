# Finds a container engine, or starts one that does not change this machine's own network. Sourced.
# shellcheck shell=bash disable=SC2154

engine_dir=$cache/engine
engine_socket=$engine_dir/docker.sock
docker_host=
netns=

# engine_pid: the first process of the engine that was started here, if it runs.
engine_pid() {
    local pid
    pid=$(cat "$engine_dir/pid" 2>/dev/null) || return 1
    # After a restart of the machine, another process may have this id.
    grep -qzxF "$engine_dir" "/proc/$pid/cmdline" 2>/dev/null && echo "$pid"
}

# find_engine: sets docker_host and netns to those of a running engine, or fails.
find_engine() {
    local pid
    if pid=$(engine_pid); then
        docker_host=unix://$engine_socket
        netns=/proc/$pid/ns/net
        export DOCKER_BUILDKIT=0 # Debian's docker.io has the classic builder only
    elif command -v docker >/dev/null 2>&1 && docker info >/dev/null 2>&1; then
        docker_host=${DOCKER_HOST:-$(docker context inspect --format '{{.Endpoints.docker.Host}}')}
        netns=
    else
        return 1
    fi
    export DOCKER_HOST=$docker_host
}

# in_engine CMD...: runs CMD in the network from which the engine's containers can be reached.
in_engine() { if [ -n "$netns" ]; then nsenter --net="$netns" -- "$@"; else "$@"; fi; }

# Some sandboxes lack this capability even for root; `docker run --privileged` would then request what cannot be
# granted.
limited() { (((0x$(awk '/^CapBnd:/ {print $2}' /proc/self/status) >> 24 & 1) == 0)); }

start_engine() {
    find_engine && return
    [ "$(id -u)" = 0 ] || die "no container engine answers (docker info), and starting one needs root: start docker, or run as root"
    [ ${#engine_socket} -le 107 ] || die "$engine_socket is too long for a socket: set BRIDGEWARDEN_E2E_CACHE to a shorter path"
    need ip iproute2
    need iptables iptables
    need jq jq
    need slirp4netns slirp4netns
    need mkfs.ext4 e2fsprogs
    need dockerd docker.io
    stop_engine
    mkdir -p "$engine_dir"
    say "starting dockerd in namespaces of its own"
    local runtime=runc
    if limited; then runtime=$here/engine/runc-limited; fi
    # Closes this shell's open descriptors (a lock, a pipe), because the engine outlives the shell.
    setsid unshare --net --pid --fork --kill-child --mount --propagation private \
        bash "$here/engine/init" "$engine_dir" "$runtime" </dev/null >"$engine_dir/log" 2>&1 9>&- &
    disown
    local tries
    for ((tries = 0; tries < 300; tries++)); do
        if find_engine && docker info >/dev/null 2>&1; then
            forget_clusters
            return
        fi
        sleep 0.2
    done
    tail -n 30 "$engine_dir/log" >&2
    die "dockerd didn't answer within a minute; the end of $engine_dir/log is above"
}

# Removes what an engine that ended unexpectedly has left: none of its processes is alive.
forget_clusters() {
    local env
    docker ps -aq | xargs -r docker rm -f -v >/dev/null
    for env in "$cache"/clusters/*/env; do
        if grep -qsxF "DOCKER_HOST=$docker_host" "$env"; then rm -rf "$(dirname "$env")"; fi
    done
}

# stop_engine: ends the engine that was started here, and everything that ran in it: its first process is the init of
# their process namespace, and the mounts and networks end with the last process that uses them.
stop_engine() {
    local pid
    if pid=$(engine_pid); then
        say "stopping dockerd"
        kill -TERM "$pid"
        local tries
        for ((tries = 0; tries < 100; tries++)); do
            engine_pid >/dev/null || break
            sleep 0.1
        done
        engine_pid >/dev/null && kill -KILL "$pid"
        while engine_pid >/dev/null; do sleep 0.1; done
    fi
    rm -f "$engine_dir/pid" "$engine_socket"
    remove_cgroups
}

# The name of the engine's cgroups, derived from the path of the cache, which is unique.
engine_cgroup() { echo "bridgewarden-e2e-$(sha256sum <<<"$1" | cut -c 1-8)"; }

# Empty cgroups stay until they are removed.
remove_cgroups() {
    local tries
    for ((tries = 0; tries < 50; tries++)); do
        find /sys/fs/cgroup -depth -type d -path "*/$(engine_cgroup "$engine_dir")*" -exec rmdir {} + 2>/dev/null || true
        [ -z "$(find /sys/fs/cgroup -maxdepth 2 -type d -name "$(engine_cgroup "$engine_dir")")" ] && return
        sleep 0.1
    done
}

# with_uplink CMD...: runs CMD while the engine can reach everything that this machine can. Otherwise it cannot, so no
# packet of a test leaves the machine.
with_uplink() {
    if [ -z "$netns" ]; then "$@"; return; fi
    local ready status=0 uplink
    ready=$(mktemp -u)
    mkfifo "$ready"
    # It ends when its standard input is closed, which happens when this shell ends in any way.
    exec 7> >(exec slirp4netns --configure --mtu=65520 --ready-fd=8 --exit-fd=0 --netns-type=path "$netns" uplink0 8>"$ready" >"$engine_dir/uplink.log" 2>&1 9>&-)
    uplink=$!
    if ! read -r -n 1 -t 20 <"$ready"; then
        cat "$engine_dir/uplink.log" >&2
        die "slirp4netns didn't connect the engine's network; its output is above"
    fi
    rm -f "$ready"
    "$@" 7>&- || status=$?
    exec 7>&-
    wait "$uplink" || true
    return $status
}
