#!/bin/bash
# Give this machine what the whole test suite needs: a Docker engine, redis-server, bubblewrap, and the tools to
# build runtime images without a registry.
#
# As root on Debian or Ubuntu it installs what is missing and starts an engine if none answers. Anywhere else it
# changes nothing and says what is missing: those tests skip, or fail where FAAS_REQUIRE names the service.
set -euo pipefail

export PATH="$PATH:/usr/sbin:/sbin" DEBIAN_FRONTEND=noninteractive
engine_socket=/var/run/docker.sock
engine_log=/var/log/faas-dockerd.log

# command:package
tools=(dockerd:docker.io redis-server:redis-server bwrap:bubblewrap mmdebstrap:mmdebstrap iptables:iptables
    ip:iproute2 nsenter:util-linux git:git)

say() { printf 'services: %s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }
required() { [[ ",${FAAS_REQUIRE:-}," == *",$1,"* ]]; }
booted_with_systemd() { [ -d /run/systemd/system ]; }

missing_packages() {
    local tool
    for tool in "${tools[@]}"; do
        have "${tool%%:*}" || echo "${tool#*:}"
    done
    python3 -c 'import ensurepip' 2>/dev/null || echo python3-venv
}

# Debian starts a service when its package is installed, unless this file says no (101).
forbid_service_starts() {
    local policy=/usr/sbin/policy-rc.d
    [ -e "$policy" ] && return
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap "rm -f $policy" EXIT
}

install_missing() {
    local packages
    mapfile -t packages < <(missing_packages)
    [ ${#packages[@]} -eq 0 ] && return
    if [ "$(id -u)" != 0 ] || ! have apt-get; then
        say "missing here: ${packages[*]} (names of Debian packages); tests that need them will skip"
        return
    fi
    say "installing ${packages[*]}"
    forbid_service_starts
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends "${packages[@]}" </dev/null >/dev/null
    # Tests start their own servers; the distribution's must not come up at the next boot.
    if [[ " ${packages[*]} " == *" redis-server "* ]] && booted_with_systemd; then
        systemctl disable --quiet redis-server || true
    fi
}

engine_answers() {
    python3 - "$engine_socket" <<'PYTHON' 2>/dev/null
import socket, sys
with socket.socket(socket.AF_UNIX) as link:
    link.settimeout(5)
    link.connect(sys.argv[1])
    link.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
    sys.exit(b" 200 " not in link.recv(64))
PYTHON
}

# A pid file left from before a reboot may name another program by now; dockerd then refuses to start.
drop_stale_pid_file() {
    local file=/var/run/docker.pid pid
    [ -s "$file" ] || return 0
    pid=$(<"$file")
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ] || rm -f "$file"
}

# wait_for_engine PID: until it answers, at most a minute; fails at once when PID has ended.
wait_for_engine() {
    local deadline=$((SECONDS + 60))
    until engine_answers; do
        [ "$SECONDS" -lt "$deadline" ] && kill -0 "$1" 2>/dev/null || return 1
        sleep 0.2
    done
}

# no_engine WHY: the end of the road where an engine is required, a notice elsewhere.
no_engine() {
    say "$1"
    ! required docker || exit 1
    say "tests that need an engine will skip"
}

start_engine() {
    if [ -n "${DOCKER_HOST:-}" ]; then
        say "DOCKER_HOST is set: using that engine, starting none"
        return
    fi
    engine_answers && return
    if [ "$(id -u)" != 0 ] || ! have dockerd; then
        no_engine "no Docker engine answers at $engine_socket"
        return
    fi
    if booted_with_systemd; then
        say "starting the docker service"
        systemctl start docker
        engine_answers || no_engine "the docker service does not answer at $engine_socket"
        return
    fi
    say "starting dockerd, log in $engine_log"
    drop_stale_pid_file
    setsid nohup dockerd --storage-driver overlay2 </dev/null >"$engine_log" 2>&1 &
    if ! wait_for_engine $!; then
        grep -v level=info "$engine_log" | tail -n 15 >&2 || true
        no_engine "dockerd did not come up; above is the end of $engine_log"
    fi
}

install_missing
start_engine
