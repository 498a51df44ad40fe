# SPDX-License-Identifier: GPL-2.0-or-later
# private_apt DIRECTORY ARCHITECTURES: from here on apt-get and apt-cache work in a state of their own in DIRECTORY, with Debian's package lists read
# anew, so that the host's own configuration (its architectures above all) stays as it is; root and an ordinary user alike. DIRECTORY/update.log is what
# reading the lists said. For `.` of a shell script; ARCHITECTURES as apt.conf(5) has lists: '"amd64"; "i386"'.
private_apt() {
    mkdir -p "$1/state/lists/partial" "$1/cache/archives/partial" "$1/log"
    : > "$1/state/status"
    cat > "$1/apt.conf" <<CONF
Dir::State "$1/state";
Dir::State::status "$1/state/status";
Dir::Cache "$1/cache";
Dir::Log "$1/log";
APT::Architecture "amd64";
APT::Architectures { $2; };
APT::Install-Recommends "false";
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
Acquire::Retries "3";
CONF
    export APT_CONFIG="$1/apt.conf"
    echo "guest: reading Debian's package lists ..."
    # One index out of step on the mirror is no harm while another suite has the packages; who looks for them says so.
    apt-get update -qq > "$1/update.log" 2>&1 || true
}
